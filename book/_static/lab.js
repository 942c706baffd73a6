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
