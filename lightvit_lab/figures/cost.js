// The cost explorer: sizes from sliders, costs by the formulas of profiling/estimates.py, drawn into cost.py's charts.

function estimate(sizes, classes) {
  var patches = Math.pow(sizes.image_size / sizes.patch_size, 2), tokens = patches + 1;
  var pixels = 3 * sizes.patch_size * sizes.patch_size, d = sizes.dim, depth = sizes.depth;
  var attention = depth * 2 * tokens * tokens * d;
  var macs = patches * pixels * d + depth * 12 * tokens * d * d + attention + d * classes;
  var around = (pixels + 1) * d + (tokens + 1) * d + 2 * d + (d + 1) * classes;
  return { tokens: tokens, params: around + depth * (12 * d * d + 13 * d), macs: macs, attention: attention,
    share: 100 * (attention / macs) };
}

function linesOf(cost, quantity) {             // what is drawn, as cost.values
  if (quantity === "MACs") { return [cost.macs, cost.macs - cost.attention, cost.attention]; }
  return [{ parameters: cost.params, tokens: cost.tokens }[quantity] || cost.share];
}

function sentence(sizes, cost) {               // as cost.sentence
  return sizes.image_size + " px in patches of " + sizes.patch_size + " px make " + grouped(cost.tokens)
    + " tokens. With width " + sizes.dim + " and " + sizes.depth + " blocks that is " + grouped(cost.params)
    + " parameters and " + grouped(cost.macs) + " MACs for one picture, " + cost.share.toFixed(1)
    + " % of them in attention's own products. At this width they are half of a block from "
    + grouped(6 * sizes.dim) + " tokens on.";
}

function short(value) {                        // as axes.short
  var prefixes = [[1e15, " P"], [1e12, " T"], [1e9, " G"], [1e6, " M"], [1e3, " k"]];
  var found = prefixes.find(function (one) { return value >= one[0]; });
  return found ? Number((value / found[0]).toPrecision(3)) + found[1] : String(Number(value.toPrecision(3)));
}

setUpCards("cost", function (card) {
  var data = card.data, names = Object.keys(data.sizes);

  function costs(sizes, varied) {              // with one size changed, at each of its values
    return data.sizes[varied].map(function (value) {
      var changed = Object.assign({}, sizes);
      changed[varied] = value;
      return estimate(changed, data.num_classes);
    });
  }
  function draw(chart, varied, sizes, quantity) {
    var x = data.x[varied], y = data.y[quantity], rows = costs(sizes, varied).map(function (cost) {
      return linesOf(cost, quantity);
    });
    chart.querySelectorAll(".line").forEach(function (path, i) {
      path.setAttribute("d", i < rows[0].length
        ? line(data.sizes[varied], rows.map(function (row) { return row[i]; }), x, y) : "");
    });
    var dot = chart.querySelector(".here");
    dot.setAttribute("cx", at(x, sizes[varied]).toFixed(1));
    dot.setAttribute("cy", at(y, rows[data.sizes[varied].indexOf(sizes[varied])][0]).toFixed(1));
    var ends = data.sizes[varied], label = data.labels[varied];
    chart.setAttribute("aria-label", data.titles[quantity] + " against " + label[0] + ", both axes logarithmic: "
      + short(rows[0][0]) + " at " + ends[0] + label[1] + ", " + short(rows[rows.length - 1][0]) + " at "
      + ends[ends.length - 1] + label[1] + ".");
  }
  card.start(function () {
    var sizes = {}, quantity = data.quantities[Number(card.choice("drawn").value)];
    names.forEach(function (name) {
      var input = card.choice(name);
      sizes[name] = data.sizes[name][Number(input.value)];
      card.showValue(input, sizes[name] + data.labels[name][1]);
    });
    card.all("[data-quantity]").forEach(function (axis) {
      axis.toggleAttribute("hidden", axis.dataset.quantity !== quantity);
    });
    card.all("[data-legend]")[0].hidden = quantity !== "MACs";
    card.all(".lab-card-chart").forEach(function (chart, i) { draw(chart, data.panels[i], sizes, quantity); });
    card.say(sentence(sizes, estimate(sizes, data.num_classes)));
    card.fill([].concat.apply([], data.panels.map(function (varied) {
      return [].concat.apply([], costs(sizes, varied).map(function (cost) {
        return [grouped(cost.tokens), grouped(cost.params), grouped(cost.macs), cost.share.toFixed(1) + " %"];
      }));
    })));
  });
});
