// Training curves: smooths the losses of runs.py's chart and reads them at a step.

function runningMean(values, smooth) {         // of the last `smooth` values, as curves.running_mean
  var sums = [0];                              // the same sums in the same order give the same digits
  values.forEach(function (value, i) { sums.push(sums[i] + value); });
  return values.map(function (_, i) {
    return (sums[i + 1] - sums[Math.max(0, i + 1 - smooth)]) / Math.min(smooth, i + 1);
  });
}

setUpCards("runs", function (card) {
  var data = card.data, charts = card.all(".lab-card-chart"), lines = charts[0].querySelectorAll(".line");
  var count = Math.max.apply(null, data.losses.map(function (loss) { return loss.length; }));
  var rows = Array.from({ length: Math.min(count, 11) }, function (_, i) {
    return count > 10 ? Math.floor(i * (count - 1) / 10) : i;
  });
  function step(index) { return (index + 1) * data.stretch; }
  function steps(values) { return grouped(values * data.stretch) + (values * data.stretch === 1 ? " step" : " steps"); }

  card.start(function () {
    var smooth = Number(card.choice("smooth").value), index = Number(card.choice("index").value);
    var means = data.losses.map(function (loss) { return runningMean(loss, smooth); });
    means.forEach(function (mean, i) {
      lines[i].setAttribute("d", line(mean.map(function (_, k) { return step(k); }), mean, data.x, data.y));
    });
    card.all(".cursor").forEach(function (cursor) {
      cursor.setAttribute("d", cursor.getAttribute("d").replace(/^M[\d.]+/, "M" + at(data.x, step(index)).toFixed(1)));
    });
    card.showValue(card.choice("smooth"), steps(smooth));
    card.showValue(card.choice("index"), "step " + grouped(step(index)));
    var there = data.names.map(function (name, i) { return [name, means[i]]; })
      .filter(function (run) { return index < run[1].length; });
    card.say("Training loss at step " + grouped(step(index)) + ", mean of the last "
      + steps(Math.min(smooth, index + 1)) + ". "
      + there.map(function (run) { return run[0] + ": " + run[1][index].toFixed(3); }).join("; ") + ".");
    card.fill([].concat.apply([], rows.map(function (at) {
      return means.map(function (mean) { return at < mean.length ? mean[at].toFixed(3) : ""; });
    })));
  });
});
