// What an explorer's script stands on: maps looked up, said in words and painted. explorer.py puts it before
// explorer.js, in one function of their own. `data` is what explorer.py's _data makes, `state` what the reader chose;
// head -1 is the mean of heads.

function decode(text) {                      // base64 -> bytes
  return Uint8Array.from(window.atob(text), function (letter) { return letter.charCodeAt(0); });
}
function shown(value, top) {                   // as overlay.shown
  var digits = top > 0 ? Math.max(0, Math.floor(Math.log10(255 / top))) : 0;
  if (value === 0 || digits > 5) { return small(value); }
  var text = value.toFixed(digits);
  return Number(text) === 0 ? text.replace("-", "") : text;
}
function shownTimes(value) {                   // as overlay.shown_times
  var size = Math.abs(value);
  return size < 0.01 ? small(value) : value.toFixed(size >= 9.95 ? 0 : size >= 0.095 ? 1 : 2);
}
function small(value) { return value === 0 ? "0" : value.toExponential(1).replace("e+", "e"); }
function highest(values) {                     // where
  return values.reduce(function (best, value, i) { return value > values[best] ? i : best; }, 0);
}
function lowest(values) {                      // how low, zero at most
  return values.reduce(function (least, value) { return Math.min(least, value); }, 0);
}
function average(values) { return values.reduce(function (sum, value) { return sum + value; }, 0) / values.length; }

function reader(data) {                      // looks maps up, as Atlas.look
  var steps = decode(data.bytes), floats = new Float32Array(decode(data.floats).buffer);
  var bytesBefore = 0, floatsBefore = 0, pictures = data.pictures.length;
  data.methods.forEach(function (method) {
    var rows = pictures * method.blocks * method.heads * method.queries;
    method.bytesBefore = bytesBefore;
    method.floatsBefore = floatsBefore;
    bytesBefore += rows * method.height * method.width;
    floatsBefore += rows * (1 + method.front);
  });

  function row(method, picture, block, head, query) {
    var index = ((picture * method.blocks + block) * method.heads + head) * method.queries + query;
    var size = method.height * method.width, at = method.floatsBefore + index * (1 + method.front);
    var from = method.bytesBefore + index * size, factor = (floats[at] - method.low) / 255;
    var cells = Array.from(steps.subarray(from, from + size), function (step) { return method.low + step * factor; });
    return { cells: cells, front: Array.from(floats.subarray(at + 1, at + 1 + method.front)) };
  }
  function meanOf(rows, part) {
    return rows[0][part].map(function (_, i) { return average(rows.map(function (one) { return one[part][i]; })); });
  }
  function byPatch(method, cells) {          // means over patches, of maps with one value a pixel
    if (method.height === data.rows && method.width === data.columns) { return cells; }
    var tall = method.height / data.rows, wide = method.width / data.columns;
    var sums = new Array(data.rows * data.columns).fill(0);
    cells.forEach(function (value, i) {
      var y = Math.floor(Math.floor(i / method.width) / tall), x = Math.floor(i % method.width / wide);
      sums[y * data.columns + x] += value / (tall * wide);
    });
    return sums;
  }
  return function (state) {
    var method = data.methods[state.method], query = method.kind === "grid" ? 0 : state.query;
    var block = method.kind === "heads" ? state.block : 0, rows = [];
    for (var head = 0; head < method.heads; head += 1) {
      if (method.kind !== "heads" || state.head < 0 || state.head === head) {
        rows.push(row(method, state.picture, block, head, query));
      }
    }
    var cells = meanOf(rows, "cells"), patches = byPatch(method, cells);
    var share = method.share === "fair" ? method.fair : method.share === "mean" ? average(patches) : 0;
    return { method: method, cells: cells, patches: patches, front: meanOf(rows, "front"), share: share };
  };
}

function writer(data) {                      // says what there is to see, as Atlas.sentence
  var words = { fair: "a fair share", mean: "the mean patch" };
  function patch(i) { return "row " + Math.floor(i / data.columns) + ", column " + i % data.columns; }
  function token(query) {
    if (query >= data.prefix) { return "the patch at " + patch(query - data.prefix); }
    return query === 0 ? "the class token" : "extra token " + query;
  }
  function amount(look, i) {
    var text = shown(look.patches[i], Math.max.apply(null, look.patches));
    if (!(look.share > 0)) { return text; }
    return text + ", " + shownTimes(look.patches[i] / look.share) + " times " + words[look.method.share];
  }
  function start(look, state) {
    var head = state.head < 0 ? "mean of heads" : "head " + state.head;
    return look.method.name + (look.method.kind === "heads" ? ", block " + state.block + ", " + head : "");
  }
  function sentence(look, state) {
    var best = highest(look.patches), most = patch(best) + ": " + amount(look, best) + ".";
    if (look.method.kind === "grid") {
      var here = state.query - data.prefix;
      var rest = here < 0 ? "" : " Here, at " + patch(here) + ": " + amount(look, here) + ".";
      return look.method.name + " is highest at " + most + rest;
    }
    var verb = look.method.kind === "heads" ? " looks most at " : " rests most on ";
    var top = Math.max(look.front[0], look.patches[highest(look.patches)]);
    var front = data.prefix ? " The class token gets " + shown(look.front[0], top) + "." : "";
    return start(look, state) + ": " + token(state.query) + verb + most + front;
  }
  function reading(look, state, i) {         // of one patch of the map
    if (look.method.kind === "grid") { return look.method.name + " at " + patch(i) + ": " + amount(look, i) + "."; }
    return start(look, state) + ": " + token(state.query) + " gives " + patch(i) + ": " + amount(look, i) + ".";
  }
  return { token: token, amount: amount, sentence: sentence, reading: reading };
}

function painter(data) {                     // lays a map over grey, as overlay.blend
  var last = data.scale.length - 1;
  function colour(across, channel) {
    var stop = Math.min(Math.floor(across * last), last - 1), rest = across * last - stop;
    return data.scale[stop][channel] * (1 - rest) + data.scale[stop + 1][channel] * rest;
  }
  return function (canvas, pixels, look) {
    var low = lowest(look.cells), high = look.cells[highest(look.cells)];
    var painted = new ImageData(data.width, data.height);
    for (var i = 0; i < data.width * data.height; i += 1) {
      var y = Math.floor(Math.floor(i / data.width) * look.method.height / data.height);
      var x = Math.floor(i % data.width * look.method.width / data.width);
      var across = (look.cells[y * look.method.width + x] - low) / (high - low || 1);
      var grey = 0.299 * pixels[4 * i] + 0.587 * pixels[4 * i + 1] + 0.114 * pixels[4 * i + 2];
      for (var channel = 0; channel < 3; channel += 1) {
        var mixed = data.opacity * colour(across, channel) + (1 - data.opacity) * grey;
        painted.data[4 * i + channel] = Math.floor(mixed + 0.5);
      }
      painted.data[4 * i + 3] = 255;
    }
    canvas.getContext("2d").putImageData(painted, 0, 0);
    return [low, high];
  };
}
