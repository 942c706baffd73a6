// Sets up each explorer on the page that is not yet; harmless when run again. Stands on explorer_maps.js.

function fillChoices(root, data, state, refresh) {   // native selects; gives a function that shows the state in them
  var boxes = {};
  root.querySelectorAll("select[data-choice]").forEach(function (box) { boxes[box.dataset.choice] = box; });
  var say = writer(data);

  function fill(name, labels, first) {         // values count from `first`
    boxes[name].replaceChildren.apply(boxes[name], labels.map(function (label, i) {
      return new Option(label, String(i + first));
    }));
  }
  function numbers(count) { return Array.from({ length: count }, function (_, i) { return String(i); }); }

  fill("picture", data.pictures.map(function (picture) { return picture.caption; }), 0);
  fill("method", data.methods.map(function (method) { return method.name; }), 0);
  var heads = data.methods.find(function (method) { return method.kind === "heads"; });
  fill("block", numbers(heads ? heads.blocks : 0), 0);
  fill("head", heads ? ["mean"].concat(numbers(heads.heads)) : [], -1);
  fill("from", numbers(data.prefix + data.rows * data.columns).map(function (_, i) {
    return say.token(i).replace(/^the (patch at )?/, "");
  }), 0);
  boxes.block.parentNode.hidden = boxes.head.parentNode.hidden = !heads;
  boxes.picture.parentNode.hidden = data.pictures.length === 1;
  boxes.method.parentNode.hidden = data.methods.length === 1;

  var keys = { picture: "picture", method: "method", block: "block", head: "head", from: "query" };
  Object.keys(keys).forEach(function (name) {
    boxes[name].addEventListener("change", function () {
      state[keys[name]] = Number(boxes[name].value);
      refresh();
    });
  });
  return function () {
    Object.keys(keys).forEach(function (name) { boxes[name].value = String(state[keys[name]]); });
    boxes.block.disabled = boxes.head.disabled = data.methods[state.method].kind !== "heads";
  };
}

function patchUnder(event, panel, data) {      // index of the patch under the pointer
  var box = panel.getBoundingClientRect();
  function cell(place, size, count) { return Math.min(Math.max(Math.floor(place / size * count), 0), count - 1); }
  return cell(event.clientY - box.top, box.height, data.rows) * data.columns
    + cell(event.clientX - box.left, box.width, data.columns);
}

function queryAfter(key, query, data) {        // the token that looks after an arrow key or Home; null for other keys
  var moves = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
  if (key === "Home") { return 0; }
  if (!moves[key]) { return null; }
  if (query < data.prefix) { return data.prefix; }
  var patch = query - data.prefix, row = Math.floor(patch / data.columns) + moves[key][0];
  var column = patch % data.columns + moves[key][1];
  if (row < 0 || row >= data.rows || column < 0 || column >= data.columns) { return query; }
  return data.prefix + row * data.columns + column;
}

function placeMark(mark, query, data) {        // frames the patch that looks, in shares of the panel
  mark.hidden = query < data.prefix;
  var patch = query - data.prefix;
  mark.style.left = 100 * (patch % data.columns) / data.columns + "%";
  mark.style.top = 100 * Math.floor(patch / data.columns) / data.rows + "%";
  mark.style.width = 100 / data.columns + "%";
  mark.style.height = 100 / data.rows + "%";
}

function loadPixels(source, data, done) {      // the picture's bytes, four a pixel
  var picture = new Image();
  picture.onload = function () {
    var canvas = document.createElement("canvas");
    canvas.width = data.width;
    canvas.height = data.height;
    canvas.getContext("2d").drawImage(picture, 0, 0);
    done(canvas.getContext("2d").getImageData(0, 0, data.width, data.height));
  };
  picture.src = source;
}

function setUp(root) {
  root.dataset.ready = "true";
  var data = JSON.parse(root.querySelector("script[type='application/json']").textContent);
  var find = root.querySelector.bind(root), pixels = {}, pointed = { query: null, read: null };
  var state = { picture: 0, method: 0, block: data.block, head: -1, query: data.query };
  var lookUp = reader(data), say = writer(data), paint = painter(data);
  var from = find(".lab-explorer-from"), to = find(".lab-explorer-to");
  var canvases = [from.querySelector("canvas"), to.querySelector("canvas")];
  var cells = Array.from(root.querySelectorAll("td"));

  function drawPicture(now, look) {
    if (!pixels[now.picture]) {
      loadPixels(data.pictures[now.picture].src, data, function (found) { pixels[now.picture] = found; refresh(); });
      return;
    }
    canvases[0].getContext("2d").putImageData(pixels[now.picture], 0, 0);
    paint(canvases[1], pixels[now.picture].data, look);
  }
  function drawEnds(look) {                    // numbers under the colour bar, as Atlas.ends
    var low = lowest(look.cells), top = look.cells[highest(look.cells)];
    var times = look.share > 0 ? " (" + shownTimes(top / look.share) + " x " + look.method.share + ")" : "";
    [shown(low, top), shown((low + top) / 2, top), shown(top, top) + times].forEach(function (text, i) {
      find(".lab-explorer-ends").children[i].textContent = text;
    });
  }
  function refresh() {
    var now = Object.assign({}, state, pointed.query === null ? {} : { query: pointed.query });
    var look = lookUp(now), top = Math.max.apply(null, look.patches);
    drawPicture(now, look);
    drawEnds(look);
    root.querySelectorAll(".lab-explorer-mark").forEach(function (mark) { placeMark(mark, now.query, data); });
    cells.forEach(function (cell, i) { cell.textContent = shown(look.patches[i], top); });
    var text = pointed.read === null ? say.sentence(look, now) : say.reading(look, now, pointed.read);
    if (find(".lab-explorer-said").textContent !== text) { find(".lab-explorer-said").textContent = text; }
    showChoices();
  }
  var showChoices = fillChoices(root, data, state, refresh);

  function follow(panel, name, chosen) {       // a pointer over a panel: looks while there, and keeps what is pressed
    function point(value) {
      if (pointed[name] !== value) { pointed[name] = value; refresh(); }
    }
    panel.addEventListener("pointermove", function (event) { point(chosen(patchUnder(event, panel, data))); });
    panel.addEventListener("pointerleave", function () { point(null); });
  }
  follow(from, "query", function (patch) { return patch + data.prefix; });
  follow(to, "read", function (patch) { return patch; });
  from.addEventListener("click", function (event) {
    state.query = patchUnder(event, from, data) + data.prefix;
    refresh();
  });
  to.addEventListener("click", function (event) { pointed.read = patchUnder(event, to, data); refresh(); });
  from.addEventListener("keydown", function (event) {
    var next = event.ctrlKey || event.altKey || event.metaKey ? null : queryAfter(event.key, state.query, data);
    if (next === null) { return; }
    event.preventDefault();
    event.stopPropagation();
    state.query = next;
    pointed.query = pointed.read = null;
    refresh();
  });

  canvases.forEach(function (canvas) { canvas.width = data.width; canvas.height = data.height; });
  root.classList.toggle("lab-explorer-small", data.width <= 128);
  find(".lab-explorer-still").hidden = true;
  find(".lab-explorer-controls").hidden = find(".lab-explorer-stage").hidden = false;
  refresh();
}

function setUpAll() { document.querySelectorAll(".lab-explorer:not([data-ready])").forEach(setUp); }
setUpAll();
if (document.readyState === "loading") { document.addEventListener("DOMContentLoaded", setUpAll); }
