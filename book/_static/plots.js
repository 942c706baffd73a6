// Draws the page's Plotly figures. Their script, 5 MB, is fetched when the page has been painted; what is on the screen
// is drawn first, the others when there is time. The colours follow the theme: those of display.py have twins for the
// dark.
(() => {
  const DARK = {
    "#0072B2": "#A4DBFF", "#D55E00": "#EA6E00", "#009E73": "#7CC07E", "#CC79A7": "#E49BBF",
    "#882255": "#AF8389", "#332288": "#8F86E8", "#000000": "#FFFFFF", "#222222": "#E4E6EA",
    "#555555": "#A5ADB8", "#777777": "#A5ADB8", "#DDDDDD": "#3D434B", "white": "rgba(0,0,0,0)",
  };
  const BOTTOM = 55;                                   // the margin below a plot that names none, as in display.py
  const CONFIG = { responsive: true, displaylogo: false, displayModeBar: false };
  const waiting = new Map(), drawn = new Map();        // element -> its figure, as text
  let arriving = null;

  const isDark = () => document.documentElement.dataset.theme === "dark";
  const twin = (colour) => DARK[colour] || DARK[colour.toUpperCase()] || colour;
  // The names of a legend stand one below the other, for phones. Where there is room they share lines, and the figure is
  // as much lower: what stays between them is never wider than FEW pixels, in any window and on paper.
  const FEW = 560, NAME_LINE = 22;
  const isWide = (plot) => plot.clientWidth >= FEW;
  function names({ data, layout }) {                   // those that stand in the legend, as in display.py
    return layout.showlegend ? data.filter((trace) => ["scatter", "bar", undefined].includes(trace.type)
                                            && trace.showlegend !== false).map((trace) => trace.name || "") : [];
  }
  function spared(figure) {                            // the pixels that names side by side need less
    const said = names(figure), longest = Math.max(...said.map((name) => name.length), 0);
    if (said.length < 2 || said.some((name) => name.includes("<br>")) || (figure.layout.legend || {}).orientation !== "v") return 0;
    const columns = Math.floor((FEW - 80) / (longest * 6.6 + 45));
    return columns < 2 ? 0 : NAME_LINE * (said.length - Math.ceil(said.length / columns));
  }
  function inLines(figure) {                           // the same plot, under a lower legend
    const less = spared(figure), { layout } = figure;
    if (!less) return;
    const plot = layout.height - layout.margin.t - (layout.margin.b ?? BOTTOM);
    layout.height -= less;
    layout.margin.t -= less;
    layout.legend.orientation = "h";
    (layout.updatemenus || []).forEach((menu) => { menu.y -= less / plot; });
  }
  function setHeight(plot, text) {
    const figure = JSON.parse(text);
    if (isWide(plot)) inLines(figure);
    plot.style.height = `${figure.layout.height}px`;
  }
  function figureOf(text, plot) {                      // with the colours of the theme and the type of the page
    const whole = isDark() ? text.replace(/"(#[0-9A-Fa-f]{6}|white)"/g, (_, colour) => `"${twin(colour)}"`) : text;
    const figure = JSON.parse(whole), { data, layout } = figure;
    if (isWide(plot)) inLines(figure);
    setHeight(plot, text);
    layout.font = { ...(layout.font || {}), family: getComputedStyle(document.body).fontFamily };
    return [data, layout];
  }
  function draw(plot) {
    const text = waiting.get(plot);
    if (text === undefined) return;
    waiting.delete(plot);
    drawn.set(plot, text);
    plot.replaceChildren();
    Plotly.newPlot(plot, ...figureOf(text, plot), CONFIG);
  }
  function fetchPlotly() {                             // its address stands in a script that no browser runs
    arriving = arriving || new Promise((done, fail) => {
      const script = document.createElement("script");
      script.src = document.getElementById("lab-plotly").src;
      script.onload = done;
      script.onerror = () => { arriving = null; fail(new Error(`${script.src} is not there`)); };
      document.head.append(script);
    });
    return arriving;
  }
  function drawAll() {                                 // at once where the script is there, in the colours of the theme
    recolour();
    const drawWaiting = () => [...waiting.keys()].forEach(draw);
    return window.Plotly || !waiting.size ? drawWaiting() : fetchPlotly().then(drawWaiting, showStills);
  }
  function showStills() {                              // where Plotly cannot be fetched
    waiting.forEach((_, plot) => {
      const still = plot.querySelector("noscript");
      if (still) plot.innerHTML = still.textContent;
    });
  }
  function drawNext() {                                // those in closed folds wait until these open
    const next = [...waiting.keys()].find((plot) => plot.checkVisibility());
    if (next === undefined) return;
    draw(next);
    setTimeout(drawNext, 30);                          // the reader can scroll in between
  }
  function recolour() { drawn.forEach((text, plot) => Plotly.react(plot, ...figureOf(text, plot), CONFIG)); }

  addEventListener("DOMContentLoaded", () => {
    document.querySelectorAll(".lab-figure > .lab-plot").forEach((plot) => {
      waiting.set(plot, plot.parentNode.querySelector("script[type='application/json']").textContent);
    });
    waiting.forEach((text, plot) => setHeight(plot, text));
    let few = innerWidth < FEW;
    addEventListener("resize", () => {
      if (few === (few = innerWidth < FEW)) return;
      waiting.forEach((text, plot) => setHeight(plot, text));
      recolour();
    });
    if (!waiting.size) return;
    const watch = new IntersectionObserver((seen) => seen.forEach((one) => {
      if (one.isIntersecting) { watch.unobserve(one.target); draw(one.target); }
    }), { rootMargin: "300px" });
    const begin = () => fetchPlotly().then(() => {
      [...waiting.keys()].forEach((plot) => watch.observe(plot));
      setTimeout(drawNext, 200);
    }, showStills);
    requestAnimationFrame(() => setTimeout(begin));
    new MutationObserver(recolour).observe(document.documentElement, { attributeFilter: ["data-theme"] });
  });
  window.labDrawPlots = drawAll;
})();
