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

// A link into a fold opens it.
(() => {
  const reach = () => {
    const target = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!target) return;
    const folds = [];
    for (let at = target; at; at = at.parentElement) if (at.matches("details:not([open])")) folds.push(at);
    const section = target.matches("section") && target.querySelector(":scope > details.lab-further:not([open])");
    if (section) folds.push(section);
    folds.forEach((fold) => { fold.open = true; });
    if (folds.length) target.scrollIntoView();
  };
  addEventListener("load", reach);
  addEventListener("hashchange", reach);
})();

// The strip of a page's figures: the first of each section, small, as a link to it. What a prediction covers is left out.
(() => {
  const FIGURES = ".lab-figure, .lab-card, .lab-explorer";
  const picture = (figure) => {
    const plot = figure.querySelector(".lab-plot[data-still]");
    if (!plot) return figure.querySelector(".lab-film-now svg, .lab-film-now img, .lab-card-chart, .lab-explorer-still");
    return Object.assign(new Image(), { src: plot.dataset.still, loading: "lazy" });
  };
  function thumbnail(figure, number) {
    const drawn = picture(figure), heading = titleOf(figure);
    if (!drawn || !heading || figure.closest(".lab-predict-covered")) return null;
    const link = document.createElement("a"), small = drawn.cloneNode(true), words = document.createElement("span");
    figure.id = figure.id || `figure-${number}`;
    small.removeAttribute("style");
    small.removeAttribute("id");
    small.hidden = false;                            // an explorer hides its still
    small.removeAttribute("aria-label");
    small.setAttribute("aria-hidden", "true");
    if (small.matches("img")) small.alt = "";
    words.textContent = heading;
    link.href = `#${figure.id}`;
    link.append(small, words);
    return link;
  }
  function titleOf(figure) {
    const section = figure.closest(".bd-article section section");
    let top = section;
    while (top && top.parentElement.closest("section section")) top = top.parentElement.closest("section");
    const heading = top && top.querySelector("h2");
    return heading ? [...heading.childNodes].filter((node) => !(node.matches && node.matches(".headerlink, .section-number")))
      .map((node) => node.textContent).join("").trim() : "";
  }
  addEventListener("DOMContentLoaded", () => {
    const strip = document.querySelector(".lab-strip"), seen = new Set();
    if (!strip) return;
    document.querySelectorAll(`.bd-article :is(${FIGURES})`).forEach((figure, number) => {
      const link = seen.has(titleOf(figure)) ? null : thumbnail(figure, number + 1);
      if (link) { strip.append(link); seen.add(titleOf(figure)); }
    });
    strip.hidden = strip.children.length < 2;
  });
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
