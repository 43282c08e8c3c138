"use strict";
if (matchMedia("(min-width: 700px)").matches)
  for (const gallery of document.querySelectorAll("details[data-unfold]")) gallery.open = true;
// The map: point, touch or walk with the arrow keys from image to image.
(() => {
  const map = document.querySelector(".map");
  if (!map) return;
  const data = JSON.parse(document.getElementById("map-data").textContent);
  const drawings = [...map.querySelectorAll(".drawing")];
  const output = document.getElementById("pointed");
  const highlight = document.getElementById("highlight");
  // The n-th <use> of a drawing is the point data.maps[drawing].order[n].
  const points = drawings.map((drawing, number) =>
    [...drawing.querySelectorAll(".points use")].map((use, n) => ({
      use, n, point: data.maps[number].order[n],
      x: use.x.baseVal.value, y: use.y.baseVal.value,
    })));
  let current = 0, at = null;

  function show(found, event) {
    if (at) at.use.classList.remove("at");
    at = found;
    if (!found) return;
    found.use.classList.add("at");
    const [webp, lines] = data.points[found.point];
    const image = document.createElement("img");
    image.src = "data:image/webp;base64," + webp;
    image.alt = "";
    // So few pixels are enlarged without smoothing.
    image.onload = () => { if (image.naturalWidth < 32) image.style.imageRendering = "pixelated"; };
    const words = document.createElement("span");
    words.textContent = lines.join("\n");  // as text: names may hold markup
    output.replaceChildren(image, words);
    const floats = Boolean(event) && event.pointerType === "mouse";
    output.classList.toggle("floating", floats);
    if (floats) {
      const box = map.getBoundingClientRect();
      const x = event.clientX - box.left, y = event.clientY - box.top;
      output.style.left = Math.min(x + 16, box.width - 280) + "px";
      output.style.top = y + 16 + "px";
    }
  }

  function nearest(drawing, event) {
    const matrix = drawing.querySelector("svg").getScreenCTM().inverse();
    const place = new DOMPoint(event.clientX, event.clientY).matrixTransform(matrix);
    let best = null, least = 18 * 18;  // in units of the drawing
    for (const each of points[current]) {
      if (each.use.classList.contains("dim")) continue;
      const distance = (each.x - place.x) ** 2 + (each.y - place.y) ** 2;
      if (distance < least) [best, least] = [each, distance];
    }
    return best;
  }

  function step(dx, dy) {
    const shown = points[current].filter((each) => !each.use.classList.contains("dim"));
    if (!at) return show(shown[0]);
    let best = null, least = Infinity;
    for (const each of shown) {
      const x = each.x - at.x, y = each.y - at.y, ahead = x * dx + y * dy;
      if (ahead <= 0 || each === at) continue;
      const cost = ahead + 3 * Math.abs(x * dy - y * dx);
      if (cost < least) [best, least] = [each, cost];
    }
    if (best) show(best);
  }

  function choose(number) {
    show(null);
    current = number;
    drawings.forEach((drawing, n) => { drawing.hidden = n !== number; });
    const all = new Option("all", "");
    highlight.replaceChildren(all, ...data.maps[number].names.map((name, n) => new Option(name, n)));
    dim();
  }

  function dim() {
    const wanted = highlight.value;
    for (const each of points[current])
      each.use.classList.toggle(
        "dim", wanted !== "" && data.maps[current].groups[each.point] !== Number(wanted));
  }

  const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  drawings.forEach((drawing) => {
    const point = (event) => { const found = nearest(drawing, event); if (found) show(found, event); };
    drawing.addEventListener("pointermove", point);
    drawing.addEventListener("pointerdown", point);
    drawing.addEventListener("pointerleave", () => output.classList.remove("floating"));
    drawing.addEventListener("keydown", (event) => {
      if (!(event.key in arrows)) return;
      event.preventDefault();
      step(...arrows[event.key]);
    });
  });
  map.addEventListener("change", (event) => {
    if (event.target.name === "colouring") choose(Number(event.target.value));
    if (event.target === highlight) dim();
  });
  choose(0);
})();
