// Runs beside each prediction's HTML; harmless when run again. LAB_PREDICT_ID is filled in by prediction.py.
(function () {
  "use strict";

  function recall(key) {                       // storage may be blocked, or hold something else
    try { return JSON.parse(window.localStorage.getItem(key)); } catch (error) { return null; }
  }
  function keep(key, value) {
    try { window.localStorage.setItem(key, JSON.stringify(value)); }
    catch (error) { /* the guess then lasts as long as the page */ }
  }
  function shown(number) {                     // by the rule of prediction._digits; guesses.js has it too
    var size = Math.abs(number), form = { maximumSignificantDigits: 4 };
    if (size >= 1e15 || (size > 0 && size < 1e-4)) { form.notation = "scientific"; }
    else if (Number.isInteger(number) || size >= 1e4) { form = { maximumFractionDigits: 0 }; }
    return (number + 0).toLocaleString("en-US", form).replace("E", "e");
  }
  function rounded(number, digits) {
    return number.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
  }
  function verdict(guess, answer, tolerance, distance) { // says the same as Prediction._verdict
    var points = Math.abs(guess - answer);
    if (points <= tolerance * (distance === "points" ? 1 : Math.abs(answer))) { return "right"; }
    var way = guess < answer ? "low" : "high";
    if (distance === "points") { return rounded(points, points < 10 ? 1 : 0) + " points too " + way; }
    if (guess * answer <= 0) { return "too " + way; }
    var factor = Math.max(guess / answer, answer / guess);
    if (factor < 1.005) { return "slightly too " + way; }
    var digits = factor < 2 ? 2 : factor < 100 ? 1 : 0;
    return rounded(factor, digits) + " times too " + way;
  }
  function judge(data, guess) {                // guess as text -> what is said, and whether it was right
    if (data.kind === "choice") {
      var right = guess === data.answer;
      return { right: right, verdict: right ? "right" : "wrong",
        text: "You said " + guess + ": " + (right ? "right" : "it is " + data.shown) + "." };
    }
    var found = verdict(Number(guess), Number(data.answer), Number(data.tolerance), data.distance);
    var said = (shown(Number(guess)) + " " + data.unit).trim();
    return { right: found === "right", verdict: found, text: "You said " + said + ", it is " + data.shown + ": " + found + "." };
  }
  function codeParts(text) {                   // `code` between backticks, as boxes.inline does it
    return text.split(/`([^`]+)`/).map(function (part, index) {
      if (index % 2 === 0) { return document.createTextNode(part); }
      var code = document.createElement("code");
      code.textContent = part;
      code.style.cssText = "font-family:monospace;color:inherit;background:none;border:0;padding:0";
      return code;
    });
  }

  // The outputs of the next cells of a page of the book: what shows the answer. Covered, not taken away: a figure
  // keeps its place and width, and paper shows it.
  function next(root) {
    var cell = root.closest("div.cell"), found = [];
    var outputs = Array.from(document.querySelectorAll("div.cell > .cell_output"));
    outputs.forEach(function (output) {
      var after = cell && cell.compareDocumentPosition(output) & Node.DOCUMENT_POSITION_FOLLOWING;
      var asks = output.querySelector(".lab-predict") !== null;      // a question of its own answers nothing
      if (after && !asks && !cell.contains(output) && found.length < Number(root.dataset.hides)) { found.push(output); }
    });
    return found;
  }
  function waitsFor(output) {                  // the ids of the questions without a guess that cover an output
    return (output.dataset.waitsFor || "").split(" ").filter(Boolean);
  }
  function cover(root) {
    next(root).forEach(function (output) {
      output.dataset.waitsFor = waitsFor(output).concat(root.id).join(" ");
      if (output.querySelector(".lab-predict-cover")) { return; }      // for another question too: one box is enough
      var box = document.createElement("div");
      var show = document.createElement("button");
      box.className = "lab-predict-cover";
      show.type = "button";
      show.textContent = "show it";
      show.addEventListener("click", function () {
        waitsFor(output).forEach(function (id) { uncover(document.getElementById(id)); });
      });
      box.append("What comes here answers the question above. Commit to a guess first, or ", show, ".");
      output.classList.add("lab-predict-covered");
      output.prepend(box);
    });
  }
  function uncover(root) {                     // what no other question covers
    next(root).forEach(function (output) {
      var others = waitsFor(output).filter(function (id) { return id !== root.id; });
      output.dataset.waitsFor = others.join(" ");
      if (others.length) { return; }
      output.querySelectorAll(":scope > .lab-predict-cover").forEach(function (box) { box.remove(); });
      output.classList.remove("lab-predict-covered");
    });
    window.dispatchEvent(new Event("resize"));        // for figures that were drawn under the cover
  }

  function setUp(root) {
    root.dataset.ready = "true";
    var data = root.dataset;
    var form = root.querySelector("form");
    var output = root.querySelector(".lab-predict-reveal");
    var again = root.querySelector(".lab-predict-again");
    var first = form.querySelector("input");

    function read() {
      var chosen = data.kind === "choice" ? form.querySelector("input:checked") : first;
      return chosen === null ? "" : chosen.value;
    }
    function reveal(guess) {
      var found = judge(data, guess);
      var line = document.createElement("strong");
      codeParts(found.text).forEach(function (node) { line.appendChild(node); });
      output.replaceChildren(line, document.createTextNode(" "));
      codeParts(data.explain).forEach(function (node) { output.appendChild(node); });
      form.hidden = true;
      again.hidden = false;
      uncover(root);
      return found;
    }
    function commit() {
      var guess = read();
      if (guess === "" || (data.kind === "number" && !Number.isFinite(Number(guess)))) {
        output.textContent = data.kind === "choice" ? "Choose one first." : "Give a number first.";
        first.focus();
        return;
      }
      remember(guess, reveal(guess));
      again.focus();
    }
    function remember(guess, found) {          // all that the page "Your guesses" shows; `first` stays the first guess
      var kept = recall(data.key) || {}, first = firstOf(kept) || guess || undefined;
      keep(data.key, {
        guess: guess, right: found.right, first: first, answer: data.answer, distance: data.distance,
        verdict: first === undefined ? "" : judge(data, first).verdict,
        question: data.question, kind: data.kind, shown: data.shown, unit: data.unit,
        tolerance: Number(data.tolerance), options: Number(data.options),
        page: window.location.href.split("#")[0] + "#" + root.id, title: document.title,
        when: kept.when || new Date().toISOString()
      });
    }
    function firstOf(kept) {                   // what was kept before there was a first guess has the guess alone
      return [kept.first, kept.guess].find(function (guess) { return typeof guess === "string"; });
    }
    function ask() {
      remember(null, { right: false });
      output.textContent = "";
      form.hidden = false;
      again.hidden = true;
      first.focus();
    }

    root.querySelector(".lab-predict-fold").hidden = true;
    form.hidden = false;
    form.addEventListener("submit", function (event) { event.preventDefault(); });
    form.addEventListener("keydown", function (event) {
      if (event.key === "Enter" && event.target.tagName === "INPUT") { event.preventDefault(); commit(); }
    });
    form.querySelector(".lab-predict-commit").addEventListener("click", commit);
    again.addEventListener("click", ask);

    var kept = recall(data.key);
    var guess = kept !== null && typeof kept.guess === "string" ? kept.guess : "";
    var known = data.kind === "choice"
      ? Array.from(form.querySelectorAll("input")).some(function (input) { return input.value === guess; })
      : guess !== "" && Number.isFinite(Number(guess));
    if (known) {
      var found = reveal(guess);
      if (kept.question !== data.question || kept.answer !== data.answer || !kept.verdict) { remember(guess, found); }
    } else if (document.readyState === "loading") {     // what comes below is not there yet
      document.addEventListener("DOMContentLoaded", function () { if (!form.hidden) { cover(root); } });
    } else {
      cover(root);
    }
  }

  document.querySelectorAll("#LAB_PREDICT_ID:not([data-ready])").forEach(setUp);
})();
