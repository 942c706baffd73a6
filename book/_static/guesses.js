// The page "Your guesses": sums up what prediction.js keeps in this browser. On any other page it does nothing.
(() => {
  "use strict";
  const FACTORS = [1.5, 2, 5, 10];
  const FEW = 5;                               // fewer numbers than this say little
  let root;

  const element = (tag, attributes = {}, ...children) => {
    const made = document.createElement(tag);
    Object.entries(attributes).forEach(([name, value]) => made.setAttribute(name, value));
    made.append(...children);
    return made;
  };
  const code = (text) => String(text).split(/`([^`]+)`/).map((part, at) => (at % 2 ? element("code", {}, part) : part));
  const digits = (text, most = 4) => {         // by the rule of prediction._digits, as prediction.js writes it
    const number = Number(text), size = Math.abs(number), form = { maximumSignificantDigits: most };
    const notation = size >= 1e15 || (size > 0 && size < 1e-4) ? "scientific" : "standard";
    const whole = notation === "standard" && (Number.isInteger(number) || size >= 1e4);
    return (number + 0).toLocaleString("en-US", whole ? { maximumFractionDigits: 0 } : { ...form, notation })
      .replace("E", "e");
  };
  const factor = (size) => {                   // as prediction.js writes it
    const behind = size < 2 ? 2 : size < 100 ? 1 : 0;
    return size.toLocaleString("en-US", { minimumFractionDigits: behind, maximumFractionDigits: behind });
  };
  const percent = (part, whole) => `${Math.round((100 * part) / whole)} %`;
  const plural = (count, one, more = `${one}s`) => `${count} ${count === 1 ? one : more}`;
  const isText = (value) => typeof value === "string" && value !== "";

  // --- reading what is kept

  function stored() {                          // null where storage is blocked
    try {
      const keys = Object.keys(localStorage).filter((key) => key.startsWith(root.dataset.prefix));
      return keys.map((key) => read(key, localStorage.getItem(key))).filter(Boolean)
        .sort((one, other) => one.when.localeCompare(other.when));
    } catch (error) { return null; }
  }
  function read(key, text) {                   // one guess; null where something else lies under its key
    let kept;
    try { kept = JSON.parse(text); } catch (error) { return null; }
    const guess = kept && [kept.first, kept.guess].find(isText);
    if (!guess || kept.answer === undefined) return null;
    const number = isText(kept.kind) ? kept.kind === "number" : isNumber(guess) && isNumber(kept.answer);
    if (number && !(isNumber(guess) && isNumber(kept.answer))) return null;
    const found = { key, number, guess, answer: String(kept.answer), unit: isText(kept.unit) ? kept.unit : "" };
    found.points = number && kept.distance === "points" ? Number(guess) - Number(kept.answer) : NaN;
    found.verdict = isText(kept.verdict) ? kept.verdict : "";      // as the question's own page says it
    found.right = judge(found, kept);
    found.factor = number && Number.isNaN(found.points) ? Number(guess) / Number(kept.answer) : NaN;
    if (!(found.factor > 0 && Number.isFinite(found.factor))) found.factor = NaN;
    return Object.assign(found, {
      question: isText(kept.question) ? kept.question : "", shown: isText(kept.shown) ? kept.shown : found.answer,
      page: safe(kept.page), title: isText(kept.title) ? kept.title : "", when: isText(kept.when) ? kept.when : "",
      options: Number(kept.options) > 1 ? Number(kept.options) : 0,
    });
  }
  const isNumber = (text) => String(text).trim() !== "" && Number.isFinite(Number(text));
  function judge(found, kept) {                // as prediction.js does; older ones know no tolerance, but the verdict
    if (!found.number) return found.guess === found.answer;
    if (typeof kept.tolerance !== "number") return kept.right === true;
    const unit = Number.isNaN(found.points) ? Math.abs(found.answer) : 1;
    return Math.abs(found.guess - found.answer) <= kept.tolerance * unit;
  }
  function safe(page) {                        // a link to a page of this site, or nothing
    try {
      const url = new URL(page);
      return ["http:", "https:", "file:"].includes(url.protocol) && url.origin === location.origin ? url.href : "";
    } catch (error) { return ""; }
  }

  // --- saying it

  const miss = (guess) => Math.max(guess.factor, 1 / guess.factor);
  function median(values) {
    const sorted = [...values].sort((one, other) => one - other), middle = sorted.length >> 1;
    return sorted.length % 2 ? sorted[middle] : Math.sqrt(sorted[middle - 1] * sorted[middle]);
  }
  const off = (count, one, more) =>
    (count === 1 ? `The one ${one} is` : `Of ${plural(count, one, more)}, the median is`);
  function mean(values) {                      // the middle of points, which may be 0
    const sorted = [...values].sort((one, other) => one - other), middle = sorted.length >> 1;
    return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
  }
  function verdict(guess) {
    if (guess.verdict) return guess.verdict;
    if (guess.right) return "right";
    if (!guess.number) return "wrong";
    const way = Number(guess.guess) < Number(guess.answer) ? "low" : "high";
    if (Number.isNaN(guess.factor)) return `too ${way}`;
    return miss(guess) < 1.005 ? `slightly too ${way}` : `${factor(miss(guess))} times too ${way}`;
  }
  function summary(guesses) {
    const numbers = guesses.filter((guess) => guess.number), choices = guesses.filter((guess) => !guess.number);
    const lines = [`You have answered ${plural(guesses.length, "question")}, ` +
      `${guesses.filter((guess) => guess.right).length} of them right.`];
    const measured = numbers.filter((guess) => !Number.isNaN(guess.factor));
    if (measured.length) {
      const low = measured.filter((guess) => !guess.right && guess.factor < 1).length;
      const high = measured.filter((guess) => !guess.right && guess.factor > 1).length;
      lines.push(`${off(measured.length, "number")} off by a factor of ${factor(median(measured.map(miss)))}; ` +
        `${low} too low, ${high} too high.`);
    }
    const scored = numbers.filter((guess) => !Number.isNaN(guess.points));
    if (scored.length) {
      const low = scored.filter((guess) => !guess.right && guess.points < 0).length;
      const high = scored.filter((guess) => !guess.right && guess.points > 0).length;
      const middle = mean(scored.map((guess) => Math.abs(guess.points)));
      lines.push(`${off(scored.length, "accuracy", "accuracies")} off by ${digits(middle, 2)} points; ` +
        `${low} too low, ${high} too high.`);
    }
    if (choices.length) lines.push(chosen(choices));
    if (measured.length + scored.length < FEW) lines.push("So few numbers say little about how well you estimate.");
    return lines;
  }
  function chosen(choices) {
    const right = choices.filter((guess) => guess.right).length;
    const known = choices.every((guess) => guess.options);
    const chance = choices.reduce((sum, guess) => sum + 1 / guess.options, 0);
    return `Of ${plural(choices.length, "choice")}, ${right} ${right === 1 ? "is" : "are"} right` +
      (known ? `; choosing blindly gives ${digits(chance, 2)} on average.` : ".");
  }

  // --- drawing it

  function bars(measured) {
    const rows = FACTORS.map((limit) => {
      const inside = measured.filter((guess) => miss(guess) <= limit).length;
      const bar = element("div", { class: "lab-guesses-bar", "aria-hidden": "true" }, element("div"));
      bar.firstChild.style.width = `${(100 * inside) / measured.length}%`;
      return element("tr", {}, element("th", { scope: "row" }, `within a factor of ${limit}`), element("td", {}, bar),
        element("td", {}, `${inside} of ${measured.length} (${percent(inside, measured.length)})`));
    });
    return table(["Guess and answer lie", "Drawn", "Share of your numbers"], rows);
  }
  function list(guesses) {
    const rows = guesses.map((guess) => element("tr", {}, element("th", { scope: "row" }, ...question(guess)),
      element("td", {}, ...code(guess.number ? `${digits(guess.guess)} ${guess.unit}`.trim() : guess.guess)),
      element("td", {}, ...code(guess.shown)), element("td", {}, verdict(guess))));
    return element("div", { class: "lab-guesses-wide", tabindex: "0", role: "region", "aria-label": "All guesses" },
      table(["Question", "Your guess", "Answer", "Verdict"], rows));
  }
  function table(names, rows) {
    const head = element("tr", {}, ...names.map((name) => element("th", { scope: "col" }, name)));
    return element("table", { class: "lab-guesses-table" }, element("thead", {}, head), element("tbody", {}, ...rows));
  }
  function question(guess) {
    if (!guess.question) return ["A guess kept by an earlier edition: open its page again, and its question is shown."];
    return guess.page ? [element("a", { href: guess.page }, ...code(guess.question))] : code(guess.question);
  }
  function button(text, act) {
    const made = element("button", { type: "button", class: "lab-guesses-button" }, text);
    made.addEventListener("click", act);
    return made;
  }

  // --- taking it along, and forgetting it

  function csv(guesses) {
    const columns = ["question", "page", "kind", "guess", "answer", "unit", "right", "factor", "when"];
    const rows = guesses.map((guess) => [guess.question, guess.page, guess.number ? "number" : "choice", guess.guess,
      guess.answer, guess.unit, guess.right, Number.isNaN(guess.factor) ? "" : guess.factor, guess.when]);
    const quoted = (cell) => `"${String(cell).replaceAll('"', '""')}"`;
    return [columns, ...rows].map((row) => row.map(quoted).join(",") + "\r\n").join("");
  }
  function save() {
    const address = URL.createObjectURL(new Blob([csv(stored() || [])], { type: "text/csv" }));
    element("a", { href: address, download: "my_guesses.csv" }).click();
    setTimeout(() => URL.revokeObjectURL(address), 1000);
  }
  function forget() {
    const guesses = stored() || [];
    if (!confirm(`Forget ${plural(guesses.length, "guess", "guesses")}? This cannot be undone.`)) return;
    guesses.forEach((guess) => localStorage.removeItem(guess.key));
    draw();
    root.querySelector(".lab-guesses-said").focus();
  }

  function draw() {
    const guesses = stored();
    const said = element("div", { class: "lab-guesses-said", role: "status", tabindex: "-1" });
    if (!guesses) said.append(element("p", {}, "This browser lets the page keep nothing, so no guesses are known."));
    else if (!guesses.length) said.append(element("p", {}, "No guesses are kept in this browser yet."));
    else said.append(...summary(guesses).map((line) => element("p", {}, line)));
    root.replaceChildren(said);
    if (!guesses || !guesses.length) return;
    const measured = guesses.filter((guess) => !Number.isNaN(guess.factor));
    if (measured.length) root.append(element("h2", {}, "How close"), bars(measured));
    root.append(element("h2", {}, "One by one"), list(guesses), element("p", { class: "lab-guesses-buttons" },
      button("Save as a table (CSV)", save), button("Forget all guesses", forget)));
  }

  addEventListener("DOMContentLoaded", () => {
    root = document.getElementById("lab-guesses");
    if (!root) return;
    draw();
    addEventListener("storage", draw);         // a guess in another tab
    addEventListener("pageshow", (event) => { if (event.persisted) draw(); });
  });
})();
