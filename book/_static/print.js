// Before a page goes to paper: light colours, folds open (solutions stay closed), figures no wider than the paper and
// low, so that none leaves half of a sheet empty; high boxes and tables may be split.
// Afterwards everything is as it was. book/_tools/pdf.py prints the whole book through the same steps.
(() => {
  const PAPER = 650;                            // CSS pixels of text on A4 within the margins of print.css, 988 high
  const TALL = 400, LEAST = 0.7;                // a figure's height on paper, and how far it is made smaller at most
  const SPLITS = { 180: ".cell_input, div.highlight, .output pre, .lab-figure details, .lab-explorer-data, .lab-card-data",
                   300: "div.exercise, .admonition, .lab-card, .lab-check" };
  const undo = [];
  const isSolution = (fold) => !fold.matches(".lab-further") && /solution/i.test(fold.querySelector("summary").textContent);

  function set(target, name, value) {
    const before = target[name];
    undo.push(() => { target[name] = before; });
    target[name] = value;
  }

  function fold(details) {
    const closed = isSolution(details) && !document.body.classList.contains("lab-with-solutions");
    set(details, "open", !closed);
    if (!closed) return;
    details.classList.add("lab-left-folded");
    undo.push(() => details.classList.remove("lab-left-folded"));
  }

  function fit(figure) {                        // at once and without drawing anew: a script cannot wait here
    const wide = figure.querySelector(".main-svg");
    if (!wide) return;
    const { width, height } = wide.getBoundingClientRect();
    const zoom = Math.min(PAPER / width, Math.max(LEAST, TALL / height));
    if (zoom < 1) set(figure.style, "zoom", zoom);
  }

  function split(box) {
    box.classList.add("lab-splits");
    undo.push(() => box.classList.remove("lab-splits"));
  }

  function splitHigh() {                        // measured first: marking one would lay the page out anew
    const high = Object.entries(SPLITS).flatMap(([least, boxes]) => [...document.querySelectorAll(boxes)]
      .filter((box) => box.closest(".bd-article") && box.getBoundingClientRect().height > least));
    high.forEach(split);
  }

  addEventListener("beforeprint", () => {
    set(document.documentElement.dataset, "theme", "light");
    document.querySelectorAll(".bd-article details").forEach(fold);
    if (window.labDrawPlots) window.labDrawPlots();
    document.querySelectorAll(".bd-article .js-plotly-plot").forEach(fit);
    splitHigh();
  });
  addEventListener("afterprint", () => { while (undo.length) undo.pop()(); });
})();
