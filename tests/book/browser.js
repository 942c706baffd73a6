// What the browser tests ask a page. Each of `looks` returns sentences about what is wrong; an empty list is good.
window.looks = (() => {
  const seen = element => element.checkVisibility({visibilityProperty: true, opacityProperty: true});
  const shortened = text => text.trim().replace(/\s+/g, " ").slice(0, 60);

  async function settle() {                    // until formulas and figures are there, or 20 s have passed
    const frame = () => new Promise(requestAnimationFrame);
    if (window.labDrawPlots) await labDrawPlots();
    const divs = document.querySelectorAll(".lab-plot");
    const drawn = () => [...divs].every(div => div.querySelector(".main-svg"));
    const ready = async () => {
      if (window.MathJax && MathJax.startup) await MathJax.startup.promise;
      await document.fonts.ready;
      while (!drawn()) await frame();
      await frame();
      await frame();
    };
    await Promise.race([ready(), new Promise(resolve => setTimeout(resolve, 20000))]);
  }

  // As the theme's own button does. Colours change at once, so that no scan meets one on its way to another.
  function useTheme(theme) {
    const style = document.createElement("style");
    style.textContent = "*, *::before, *::after { transition: none !important; animation: none !important; }";
    document.head.append(style);
    Object.assign(document.documentElement.dataset, {mode: theme, theme: theme});
    localStorage.setItem("mode", theme);
    localStorage.setItem("theme", theme);
  }

  // Code has thousands of coloured words of a dozen kinds: one of each stays, the others become plain text. axe asks of
  // each element it meets where it stands among all others, which takes most of its time on a page with much code.
  function oneWordOfEachKind() {
    const kinds = new Set();
    for (const word of document.querySelectorAll("pre span")) {
      if (word.children.length) continue;
      const path = [];
      for (let at = word; at && !at.matches("section, details, body"); at = at.parentElement) path.push(at.className);
      const kind = path.join("<") + (word.getAttribute("style") || "");
      if (kinds.has(kind)) word.replaceWith(word.textContent);
      kinds.add(kind);
    }
  }

  // Text of the same classes all the way up, and of the same colours, is of one kind: one of each is marked for axe,
  // which takes seconds for the contrast of a page with thousands of words.
  function markOneTextOfEachKind() {
    const kinds = new Set();
    document.querySelectorAll("[data-one-of-a-kind]").forEach(element => element.removeAttribute("data-one-of-a-kind"));
    for (const element of document.querySelectorAll("body *")) {
      const text = [...element.childNodes].some(node => node.nodeType === Node.TEXT_NODE && node.data.trim());
      if (!text || !seen(element)) continue;
      const path = [];
      for (let at = element; at && at !== document.body; at = at.parentElement) {
        const style = getComputedStyle(at);
        path.push(at.tagName, at.getAttribute("class"), style.backgroundColor, style.backgroundImage, style.opacity);
      }
      const {color, fill, fontSize, fontWeight} = getComputedStyle(element);
      const kind = [color, fill, fontSize, fontWeight, ...path].join("<");
      if (kinds.has(kind)) continue;
      kinds.add(kind);
      element.setAttribute("data-one-of-a-kind", "");
    }
    return kinds.size;
  }

  function figures() {                         // blank ones
    const data = ".trace, .plot image, .heatmaplayer > *, .imagelayer > *, .barlayer > *, .scatterlayer > *";
    return [...document.querySelectorAll(".lab-figure")].flatMap((figure, index) => {
      const name = `figure ${index} (${figure.getAttribute("aria-label") || figure.className})`;
      const svg = figure.querySelector(".main-svg");
      if (!svg) return [`${name}: not drawn`];
      const box = svg.getBoundingClientRect();
      if (box.width < 50 || box.height < 50) return [`${name}: drawn ${box.width} by ${box.height} pixels`];
      return figure.querySelector(data) ? [] : [`${name}: without any data`];
    });
  }

  function labels() {                          // of figures: out of the drawing, or over one another
    const words = ".annotation-text, .gtitle, .xtitle, .ytitle, .legendtext, .cbtitle text";
    const ticks = ".xtick text, .ytick text";
    const wrong = [];
    document.querySelectorAll(".js-plotly-plot").forEach((plot, index) => {
      const edge = plot.querySelector(".main-svg").getBoundingClientRect();
      const found = selector => [...plot.querySelectorAll(selector)]
        .filter(label => label.textContent.trim() && seen(label))
        .map(label => ({text: shortened(label.textContent), box: label.getBoundingClientRect()}));
      for (const {text, box} of [...found(words), ...found(ticks)]) {
        const beyond = Math.max(edge.left - box.left, box.right - edge.right,
                                edge.top - box.top, box.bottom - edge.bottom);
        if (beyond > 3) wrong.push(`figure ${index}: "${text}" runs ${Math.round(beyond)} pixels out of the drawing`);
      }
      found(words).forEach((one, i, all) => all.slice(i + 1).forEach(other => {
        const across = Math.min(one.box.right, other.box.right) - Math.max(one.box.left, other.box.left);
        const down = Math.min(one.box.bottom, other.box.bottom) - Math.max(one.box.top, other.box.top);
        if (across > 2 && down > 4) wrong.push(`figure ${index}: "${one.text}" runs into "${other.text}"`);
      }));
    });
    return wrong;
  }

  function formulas() {                        // not typeset, wrong, or never recognised as one
    const article = document.querySelector(".bd-article") || document.body;
    const plain = [...article.querySelectorAll(".math")].filter(math => !math.querySelector("mjx-container"));
    const faulty = [...article.querySelectorAll("mjx-merror, [data-mjx-error]")];
    const wrong = [...plain.map(math => `not typeset: ${shortened(math.textContent)}`),
                   ...faulty.map(error => `MathJax could not read: ${shortened(error.textContent)}`)];
    const texts = document.createTreeWalker(article, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) {
      const node = texts.currentNode;
      if (node.parentElement.closest("script, style, pre, code, mjx-container, .math")) continue;
      const raw = /\\\(|\\\[|\$\$|\\begin\{|\$(?!\s)[^$\n]+(?<!\s)\$/;
      if (raw.test(node.data)) wrong.push(`raw: ${shortened(node.data)}`);
    }
    return wrong;
  }

  function place(element) {                    // in words, from the article inwards
    const path = [];
    for (let at = element; at && !at.matches(".bd-article"); at = at.parentElement) {
      const classes = [...at.classList].slice(0, 2).map(name => `.${name}`).join("");
      path.unshift(at.tagName.toLowerCase() + (at.id ? `#${at.id}` : classes));
    }
    return `${path.slice(-4).join(" > ")} "${shortened(element.textContent)}"`;
  }

  function canBeScrolledTo(element) {
    for (let at = element.parentElement; at && at !== document.body; at = at.parentElement)
      if (["auto", "scroll"].includes(getComputedStyle(at).overflowX)) return true;
    return false;
  }

  function edges(width) {                      // wider than the screen, or clipped, with no way to see the rest
    const total = document.scrollingElement.scrollWidth;
    const wrong = total > width + 1 ? [`the page is ${total} pixels wide on a screen of ${width}`] : [];
    const hidden = "svg *, mjx-container *, .lab-sr-only, .lab-sr-only *, .visually-hidden, script, style, br";
    const ours = ":is(.bd-article, .bd-header-article)";
    for (const element of document.querySelectorAll(`${ours}, ${ours} *`)) {
      const style = getComputedStyle(element), box = element.getBoundingClientRect();
      if (element.matches(hidden) || !seen(element) || style.clipPath !== "none") continue;
      if (box.width < 2 || box.height < 2) continue;
      if ((box.right > width + 1 || box.left < -1) && !canBeScrolledTo(element))
        wrong.push(`from ${Math.round(box.left)} to ${Math.round(box.right)} of ${width} pixels: ${place(element)}`);
      if (!["hidden", "clip"].includes(style.overflowX) || element.closest(".js-plotly-plot, div.math")) continue;
      // A formula's own width: MathJax hides a second copy for screen readers beside it, which may be wider.
      const formula = element.matches("span.math") && element.querySelector("mjx-math");
      const needed = formula ? formula.getBoundingClientRect().width : element.scrollWidth;
      if (needed > element.clientWidth + 1 && element.clientWidth > 0 && element.textContent.trim())
        wrong.push(`clipped at ${element.clientWidth} of ${Math.round(needed)} pixels: ${place(element)}`);
    }
    return wrong.slice(0, 12);
  }

  // Folds that do not open when the middle of their title is clicked, or show nothing then. By a script: sixty clicks of
  // a mouse take seconds a page.
  function folds() {
    document.querySelectorAll("details").forEach(fold => { fold.open = false; });
    return [...document.querySelectorAll(".bd-article details:not([hidden])")].flatMap(fold => {
      const title = fold.querySelector("summary");
      title.scrollIntoView({block: "center", behavior: "instant"});
      const {left, top, width, height} = title.getBoundingClientRect();
      const hit = document.elementFromPoint(left + width / 2, top + height / 2);
      if (!title.contains(hit)) return [`${title.innerText}: something covers it`];
      hit.click();
      const shown = [...fold.children].some(
        child => child !== title && child.checkVisibility() && child.getBoundingClientRect().height > 0);
      return shown ? [] : [`${title.innerText}: nothing shows under it`];
    });
  }

  // Heights in pixels: of the whole page, of its core while further sections are folded, and of the longest way in it
  // that shows no figure. They are left open.
  function reading() {
    const page = document.querySelector(".bd-article") || document.body;
    const further = [...document.querySelectorAll("details.lab-further")];
    const unfold = open => further.forEach(fold => { fold.open = open; });
    const whole = page.scrollHeight;
    unfold(false);
    const top = page.getBoundingClientRect().top, core = page.scrollHeight;
    const boxes = [...page.querySelectorAll("figure, .lab-card, .lab-explorer, img")]
      .filter(element => element.checkVisibility()).map(element => element.getBoundingClientRect())
      .filter(box => box.height > 60).sort((one, other) => one.top - other.top);
    let longest = 0, seenTo = top;
    for (const {top: start, bottom: end} of [...boxes, {top: top + core, bottom: top + core}]) {
      longest = Math.max(longest, start - seenTo);
      seenTo = Math.max(seenTo, end);
    }
    unfold(true);
    return {whole, core, longest};
  }

  return {settle, reading, useTheme, oneWordOfEachKind, markOneTextOfEachKind, figures, labels, formulas, edges, folds};
})();
