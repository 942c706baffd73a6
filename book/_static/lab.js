// What scrolls sideways must be reachable without a mouse. The theme sees to code; tables and formulas are left to us.
(() => {
  const wide = ".pst-scrollable-table-container, .lab-table, .lab-results, .bd-article div.math, .cell_output .text_html";
  const mark = () => document.querySelectorAll(wide).forEach((box) => {
    if (box.scrollWidth > box.clientWidth + 1) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
  });
  addEventListener("load", mark);
  addEventListener("resize", mark);
})();

// A word of the glossary opens a card with its entry: by mouse, by keyboard, and by a first touch (a second follows it).
(() => {
  const card = document.createElement("div");
  card.id = "lab-term-card";
  card.setAttribute("role", "tooltip");
  card.hidden = true;
  let opened = null;
  const open = (link) => {
    if (opened && opened !== link) close();
    opened = link;
    card.textContent = link.dataset.entry;
    card.hidden = false;
    link.setAttribute("aria-describedby", card.id);
    const place = link.getBoundingClientRect(), width = document.documentElement.clientWidth;
    card.style.left = `${Math.max(8, Math.min(place.left, width - card.offsetWidth - 8)) + scrollX}px`;
    card.style.top = `${place.bottom + scrollY + 4}px`;
  };
  const close = () => {
    if (opened) opened.removeAttribute("aria-describedby");
    opened = null;
    card.hidden = true;
  };
  addEventListener("DOMContentLoaded", () => {
    document.body.append(card);
    document.querySelectorAll("a.lab-term[title]").forEach((link) => {
      link.dataset.entry = link.title;             // or the browser would show its own beside the card
      link.removeAttribute("title");
      let byTouch = false;
      link.addEventListener("pointerdown", (event) => { byTouch = event.pointerType === "touch" && opened !== link; });
      link.addEventListener("click", (event) => { if (byTouch) { event.preventDefault(); open(link); byTouch = false; } });
      link.addEventListener("pointerenter", (event) => { if (event.pointerType !== "touch") open(link); });
      link.addEventListener("pointerleave", (event) => { if (event.pointerType !== "touch") close(); });
      link.addEventListener("focus", () => { if (!byTouch) open(link); });
      link.addEventListener("blur", close);
      link.addEventListener("pointercancel", () => { byTouch = false; });
    });
  });
  addEventListener("keydown", (event) => { if (event.key === "Escape") close(); });
  addEventListener("pointerdown", (event) => { if (!event.target.closest("a.lab-term")) close(); });
})();
