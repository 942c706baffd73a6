// Any two of the models at hand: fills the table and the sentence of two_models.py.

function told(value, size, digits) { return value === null ? "not known" : (value / size).toFixed(digits); }

function spanOfTime(one, two) {                // as two_models._time
  if ([one.latency_ms, two.latency_ms, one.interval_ms, two.interval_ms].includes(null)) { return ""; }
  var overlap = one.interval_ms[0] <= two.interval_ms[1] && two.interval_ms[0] <= one.interval_ms[1];
  return ", and takes " + (two.latency_ms / one.latency_ms).toFixed(2) + " times its time"
    + (overlap ? " (the intervals overlap: the run does not settle which is faster)" : "");
}

function sentence(first, one, second, two) {   // as two_models.sentence
  if (first === second) { return first + " beside itself: every ratio is 1."; }
  var text = second + " has " + (two.params / one.params).toFixed(2) + " times the parameters and "
    + (two.macs / one.macs).toFixed(2) + " times the MACs of " + first + spanOfTime(one, two);
  if (one.top1 === null || two.top1 === null) { return text + "."; }
  var gap = two.top1 - one.top1;
  return text + ". As published, its top-1 is " + Math.abs(gap).toFixed(1) + " points "
    + (gap > 0 ? "higher." : "lower.");
}

function showName(head, name) {                // may break after each underscore
  head.replaceChildren();
  name.split(/(?<=_)/).forEach(function (part) { head.append(part, document.createElement("wbr")); });
}

function ratioCell(ratio, octaves) {           // the number and its bar, as two_models._row
  var text = document.createElement("span"), frame = document.createElement("span"), bar = document.createElement("i");
  var length = 50 * Math.min(1, Math.abs(Math.log2(ratio)) / octaves);
  text.textContent = ratio.toFixed(2) + " x";
  frame.className = "lab-card-bar";
  frame.setAttribute("aria-hidden", "true");
  bar.className = ratio > 1 ? "more" : "";
  bar.style.left = (ratio > 1 ? 50 : 50 - length).toFixed(1) + "%";
  bar.style.width = length.toFixed(1) + "%";
  frame.append(bar);
  return [text, frame];
}

setUpCards("two_models", function (card) {
  var data = card.data;
  card.start(function () {
    var i = Number(card.choice("first").value), k = Number(card.choice("second").value);
    var one = data.rows[i], two = data.rows[k], cells = card.all("td");
    card.all("thead th").slice(1, 3).forEach(function (head, side) { showName(head, data.names[side ? k : i]); });
    data.quantities.forEach(function (how, row) {
      var a = one[how[0]], b = two[how[0]];
      cells[3 * row].textContent = told(a, how[3], how[4]);
      cells[3 * row + 1].textContent = told(b, how[3], how[4]);
      cells[3 * row + 2].replaceChildren.apply(cells[3 * row + 2],
        a === null || b === null ? [] : ratioCell(b / a, data.octaves));
    });
    var last = 3 * data.quantities.length, known = one.top1 !== null && two.top1 !== null, gap = two.top1 - one.top1;
    cells[last].textContent = told(one.top1, 1, 1);
    cells[last + 1].textContent = told(two.top1, 1, 1);
    cells[last + 2].textContent = known ? (gap < 0 ? "" : "+") + gap.toFixed(1) + " points" : "";
    card.say(sentence(data.names[i], one, data.names[k], two));
  });
});
