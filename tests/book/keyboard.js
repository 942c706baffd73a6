// What the keyboard test asks a page: which elements take the focus, and whether one sees it there.
window.keyboard = (() => {
  const wanted = "a[href], button, input, select, textarea, summary, iframe, [tabindex]";
  const seen = element => element.checkVisibility({visibilityProperty: true, opacityProperty: true})
    && element.getBoundingClientRect().width > 0;
  const words = element => (element.getAttribute("aria-label") || element.textContent || element.name || "").trim();
  const name = element => `${element.tagName.toLowerCase()}.${element.className} "${words(element).slice(0, 40)}"`;
  const group = element => element.type === "radio" ? element.name : "";     // Tab enters a group of choices once

  function look(element) {                     // all by which a focus can be shown, on the element or around it
    const parts = [];
    for (let at = element, level = 0; at && level < 4; at = at.parentElement, level++) {
      const {outlineStyle, outlineWidth, boxShadow, borderColor, backgroundColor, textDecoration, clipPath, opacity} =
        getComputedStyle(at);
      const outline = outlineStyle === "none" ? "" : outlineWidth + outlineStyle;
      parts.push(outline, boxShadow, borderColor, backgroundColor, textDecoration, clipPath, opacity);
      if (level === 0) parts.push(Math.round(at.getBoundingClientRect().top) < 0);
    }
    return parts.join("|");
  }

  let stops, before, visited, unseen;
  function start() {
    if (document.activeElement) document.activeElement.blur();
    stops = [...document.querySelectorAll(wanted)].filter(element => seen(element) && element.tabIndex >= 0
      && !element.disabled && !element.closest("[inert], svg"));
    before = new Map(stops.map(element => [element, look(element)]));
    visited = [];
    unseen = [];
    return stops.length;
  }
  function note() {                            // after each Tab; null once the focus has left the page
    const element = document.activeElement;
    if (!element || element === document.body) return null;
    if (visited.at(-1) === element) return `the focus is caught in ${name(element)}`;
    visited.push(element);
    if (!seen(element) || before.get(element) === look(element)) unseen.push(name(element));
    return "";
  }
  function missed() {
    const groups = new Set(visited.map(group).filter(Boolean));
    const passed = element => visited.includes(element) || groups.has(group(element));
    return stops.filter(element => !passed(element) && seen(element)).map(name);
  }
  const notSeen = () => unseen;
  return {start, note, missed, notSeen};
})();
