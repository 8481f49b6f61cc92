// A baked figure holds a picture or a film for each point of its grid, the last slider running fastest; show the one the sliders point at.
for (const figure of document.querySelectorAll("figure.explore")) {
  const sliders = [...figure.querySelectorAll("input")];
  const frames = [...figure.querySelectorAll(":scope > :not(.sliders)")];
  const show = () => {
    let index = 0;
    for (const slider of sliders) {
      const texts = JSON.parse(slider.dataset.texts);
      index = index * texts.length + Number(slider.value);
      slider.nextElementSibling.value = texts[slider.value];
      slider.setAttribute("aria-valuetext", texts[slider.value]);
    }
    frames.forEach((frame, i) => {
      frame.hidden = i !== index;
      if (frame.hidden) frame.querySelector("video")?.pause();
    });
  };
  figure.addEventListener("input", show);
  show();
  const load = () => { // of each frame the picture for the light or for the dark, whichever is shown
    const other = document.documentElement.dataset.theme === "dark" ? "only-light" : "only-dark";
    figure.querySelectorAll(`img:not(.${other})`).forEach(image => { image.loading = "eager"; });
  };
  for (const sign of ["pointerenter", "focusin"]) figure.addEventListener(sign, load); // before it is moved
}

// A film in a cell with this tag begins by itself, unless the reader does not like things that move.
if (!matchMedia("(prefers-reduced-motion: reduce)").matches) document.querySelectorAll(".tag_autoplay video").forEach(film => film.play());

// Keys scroll the code that is too wide. The theme looks 300 ms after a page has changed, and not when folded code unfolds.
const sizes = new ResizeObserver(changes => changes.forEach(({target}) => {
  target.tabIndex = target.scrollWidth > target.clientWidth || target.scrollHeight > target.clientHeight ? 0 : -1;
}));
document.querySelectorAll("pre").forEach(code => sizes.observe(code));
