// Draws the page's Plotly figures. Their script, 5 MB, is fetched when the page has been painted; what is on the screen
// is drawn first, the others when there is time. The colours follow the theme: those of display.py have twins for the
// dark.
(() => {
  const DARK = {
    "#0072B2": "#A4DBFF", "#D55E00": "#EA6E00", "#009E73": "#7CC07E", "#CC79A7": "#E49BBF",
    "#882255": "#AF8389", "#332288": "#8F86E8", "#000000": "#FFFFFF", "#222222": "#E4E6EA",
    "#555555": "#A5ADB8", "#777777": "#A5ADB8", "#DDDDDD": "#3D434B", "white": "rgba(0,0,0,0)",
  };
  const CONFIG = { responsive: true, displaylogo: false, displayModeBar: false };
  const waiting = new Map(), drawn = new Map();        // element -> its figure, as text
  let arriving = null;

  const isDark = () => document.documentElement.dataset.theme === "dark";
  const twin = (colour) => DARK[colour] || DARK[colour.toUpperCase()] || colour;
  function figureOf(text) {                            // with the colours of the theme and the type of the page
    const whole = isDark() ? text.replace(/"(#[0-9A-Fa-f]{6}|white)"/g, (_, colour) => `"${twin(colour)}"`) : text;
    const { data, layout } = JSON.parse(whole);
    layout.font = { ...(layout.font || {}), family: getComputedStyle(document.body).fontFamily };
    return [data, layout];
  }
  function draw(plot) {
    const text = waiting.get(plot);
    if (text === undefined) return;
    waiting.delete(plot);
    drawn.set(plot, text);
    plot.replaceChildren();
    Plotly.newPlot(plot, ...figureOf(text), CONFIG);
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
  function recolour() { drawn.forEach((text, plot) => Plotly.react(plot, ...figureOf(text), CONFIG)); }

  addEventListener("DOMContentLoaded", () => {
    document.querySelectorAll(".lab-figure > .lab-plot").forEach((plot) => {
      waiting.set(plot, plot.parentNode.querySelector("script[type='application/json']").textContent);
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
