// What scrolls sideways must be reachable without a mouse. The theme sees to code; tables and formulas are left to us.
(() => {
  const wide = ".pst-scrollable-table-container, .lab-table, .bd-article div.math, .cell_output .text_html";
  const mark = () => document.querySelectorAll(wide).forEach((box) => {
    if (box.scrollWidth > box.clientWidth + 1) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
  });
  addEventListener("load", mark);
  addEventListener("resize", mark);
})();

// Plotly's sliders know the mouse alone: here a figure that has one takes the focus, and its arrow keys move the slider.
(() => {
  const slider = (figure) => figure && figure._fullLayout && (figure._fullLayout.sliders || [])[0];
  const goals = { ArrowLeft: (at) => at - 1, ArrowRight: (at) => at + 1, Home: () => 0, End: (at, last) => last };
  addEventListener("load", () => document.querySelectorAll(".js-plotly-plot").forEach((figure) => {
    if (!slider(figure)) return;
    figure.tabIndex = 0;
    figure.setAttribute("role", "group");
    figure.setAttribute("aria-label", "Figure with a slider: the left and right arrow keys move it.");
  }));
  addEventListener("keydown", (event) => {
    const figure = event.target.closest(".js-plotly-plot");
    if (!(event.key in goals) || !slider(figure)) return;
    event.preventDefault();
    const { steps, active } = slider(figure), last = steps.length - 1;
    const to = Math.max(0, Math.min(last, goals[event.key](active, last)));
    Plotly.relayout(figure, { "sliders[0].active": to });
    Plotly.animate(figure, ...steps[to].args);
  });
})();
