// Before a page goes to paper: light colours, folds open (solutions stay closed), figures no wider than the paper.
// Afterwards everything is as it was. book/_tools/pdf.py prints the whole book through the same steps.
(() => {
  const PAPER = 650;                            // CSS pixels of text on A4 within the margins of print.css
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
    const width = wide ? wide.getBoundingClientRect().width : 0;
    if (width > PAPER) set(figure.style, "zoom", PAPER / width);
  }

  addEventListener("beforeprint", () => {
    set(document.documentElement.dataset, "theme", "light");
    document.querySelectorAll(".bd-article details").forEach(fold);
    if (window.labDrawPlots) window.labDrawPlots();
    document.querySelectorAll(".bd-article .js-plotly-plot").forEach(fit);
  });
  addEventListener("afterprint", () => { while (undo.length) undo.pop()(); });
})();
