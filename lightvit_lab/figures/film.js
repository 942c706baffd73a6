// A film: shows one state at a time, with its caption; plays once when it is scrolled to, unless less motion is wanted.

setUpCards("film", function (card) {
  var states = card.all(".lab-film-state"), slider = card.choice("state"), timer = null;
  var drawing = card.all(".lab-card-drawing")[0];

  function show(index) {
    slider.value = index;
    states.forEach(function (state, i) { state.classList.toggle("lab-film-now", i === index); });
    card.showValue(slider, card.data.labels[index]);
  }
  function stop() {
    if (timer !== null) { window.clearInterval(timer); }
    timer = null;
    drawing.setAttribute("aria-live", "polite");
  }
  function play() {                            // read aloud is what the reader chooses, not each state in passing
    var index = 0;
    drawing.setAttribute("aria-live", "off");
    show(index);
    timer = window.setInterval(function () {
      if (document.hidden) { return; }
      index += 1;
      show(index);
      if (index === states.length - 1) { stop(); }
    }, card.data.milliseconds);
  }
  card.start(function () { stop(); show(Number(slider.value)); });
  card.all("button").forEach(function (button) {
    button.addEventListener("click", function () { stop(); play(); });
  });
  if (!window.IntersectionObserver || window.matchMedia("(prefers-reduced-motion: reduce)").matches) { return; }
  var watch = new IntersectionObserver(function (seen) {
    if (!seen.some(function (one) { return one.isIntersecting && one.target.checkVisibility({ visibilityProperty: true }); })) { return; }
    watch.disconnect();
    if (!card.touched()) { play(); }
  }, { threshold: 0.6 });
  watch.observe(drawing);
});
