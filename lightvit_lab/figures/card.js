// What all cards share. A card's own script follows and calls setUpCards(kind, function (card) { ... }).

function at(axis, value) {                     // the pixel of a value, as Axis.at
  var share = axis.log ? Math.log(value / axis.low) / Math.log(axis.high / axis.low)
    : (value - axis.low) / (axis.high - axis.low);
  return axis.start + share * (axis.end - axis.start);
}
function line(xs, ys, x, y) {                  // the d of a path through points
  return xs.length ? "M" + xs.map(function (value, i) {
    return at(x, value).toFixed(1) + " " + at(y, ys[i]).toFixed(1);
  }).join("L") : "";
}
function grouped(number) { return number.toLocaleString("en-US"); }      // 1,234,567

function makeCard(root) {
  function all(selector) { return Array.from(root.querySelectorAll(selector)); }
  var touched = false;
  root.addEventListener("input", function () { touched = true; });
  root.addEventListener("pointerdown", function () { touched = true; });
  var card = {
    touched: function () { return touched; },      // whether the reader has begun to use it
    data: JSON.parse(root.querySelector("script[type='application/json']").textContent),
    all: all,
    choice: function (name) { return root.querySelector("[data-choice='" + name + "']"); },
    say: function (text) {
      var said = root.querySelector(".lab-card-said");
      if (said.textContent !== text) { said.textContent = text; }
    },
    showValue: function (input, text) {        // a slider's value in words, to see and to hear
      input.parentNode.querySelector("output").textContent = text;
      input.setAttribute("aria-valuetext", text);
    },
    fill: function (texts) {                   // the cells of the data table
      all("td").forEach(function (cell, i) { cell.textContent = texts[i]; });
    },
    start: function (refresh) {
      all("[data-choice]").forEach(function (box) { box.addEventListener("input", refresh); });
      root.querySelector(".lab-card-controls").hidden = false;
      refresh();
    }
  };
  return card;
}

function setUpCards(kind, setUp) {
  function setUpAll() {
    document.querySelectorAll(".lab-card[data-kind='" + kind + "']:not([data-ready])").forEach(function (root) {
      root.dataset.ready = "true";
      setUp(makeCard(root));
    });
  }
  setUpAll();
  if (document.readyState === "loading") { document.addEventListener("DOMContentLoaded", setUpAll); }
}
