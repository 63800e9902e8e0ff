// The picture of a record, and what is drawn over it.

import { $, shape } from "./dom.js";
import { drawMask } from "./mask.js";
import { ask } from "./requests.js";

const OVERLAYS = { mask: true, box: true, points: true };
const MASK = "#00e5ff";

const pictures = new Map(); // record number -> promise of its layers, a few
let shown = null; // the record whose picture is shown
let mask = null;
let zoomed = false;

export const isZoomed = () => zoomed;

export function layersOf(index) {
  if (!pictures.has(index)) {
    const fetched = (async () => {
      const blob = async (name) => (await ask(`api/records/${index}/${name}`)).blob();
      const [image, drawn] = await Promise.all([blob("image"), blob("mask")]);
      return { image: URL.createObjectURL(image), mask: drawn.size ? await createImageBitmap(drawn) : null };
    })();
    fetched.catch(() => {});
    pictures.set(index, fetched);
    for (const old of [...pictures.keys()].slice(0, -6)) {
      pictures.get(old).then((layers) => URL.revokeObjectURL(layers.image), () => {});
      pictures.delete(old);
    }
  }
  return pictures.get(index);
}

export const forget = (index) => pictures.delete(index);

// Show the layers of a record; `current` tells whether it is still the one to be shown.
export async function showPicture(record, layers, current) {
  const { width, height } = record;
  $("layers").hidden = false;
  $("layers").style.setProperty("--ratio", width / height);
  $("image").src = layers.image;
  await $("image").decode().catch(() => {});
  if (!current()) return;
  shown = record;
  mask = layers.mask;
  drawShapes();
  overlays();
  zoom(false);
  $("layers").classList.remove("loading");
}

function showMask(factor) {
  const { width, height } = shown;
  const canvas = $("mask");
  canvas.width = width;
  canvas.height = height;
  if (!mask) return;
  const across = factor * Math.max($("layers").clientWidth, 1);
  const reach = Math.max(1, Math.round((1.5 * width) / across)); // pixels of the picture
  drawMask(canvas.getContext("2d"), mask, [0, 0, width, height], { colour: MASK, reach, fill: 0.18 });
}

function drawShapes() {
  const { width, height, bbox, points = [] } = shown;
  const svg = $("shapes");
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.setAttribute("preserveAspectRatio", "none");
  const shapes = [];
  if (bbox) {
    const [x, y, right, bottom] = bbox;
    const place = { x, y, width: right - x, height: bottom - y };
    shapes.push(shape("rect", "box-part under", place), shape("rect", "box-part box", place));
  }
  for (const [x, y] of points) {
    // A line of no length with round ends is a dot whose size no zoom changes.
    for (const part of ["point-under", "point"]) shapes.push(shape("path", `point-part ${part}`, { d: `M${x} ${y}h0` }));
  }
  svg.replaceChildren(...shapes);
}

function overlays() {
  for (const [name, on] of Object.entries(OVERLAYS)) $(`show-${name}`).setAttribute("aria-pressed", on);
  $("mask").style.visibility = OVERLAYS.mask ? "" : "hidden";
  for (const part of $("shapes").querySelectorAll(".box-part")) part.style.visibility = OVERLAYS.box ? "" : "hidden";
  for (const part of $("shapes").querySelectorAll(".point-part")) part.style.visibility = OVERLAYS.points ? "" : "hidden";
}

// Show or hide the mask, the box or the points, and return which it is now.
export function toggle(name) {
  OVERLAYS[name] = !OVERLAYS[name];
  overlays();
  return OVERLAYS[name] ? "shown" : "hidden";
}

// Bring the target near, or show the whole picture; without a word, what is so already is drawn anew.
export function zoom(on = zoomed) {
  if (shown === null) return;
  zoomed = on;
  $("zoom").setAttribute("aria-pressed", zoomed);
  const layers = $("layers");
  const { width, height, bbox = [0, 0, width, height] } = shown;
  const [x1, y1, x2, y2] = bbox;
  const near = Math.min(Math.max(0.5 * Math.min(width / (x2 - x1), height / (y2 - y1)), 1.5), 8);
  const factor = zoomed ? near : 1;
  const shift = (centre, side) => Math.min(Math.max(side / 2 - centre * factor, side - side * factor), 0);
  const [across, down] = [layers.clientWidth, layers.clientHeight];
  const left = shift((((x1 + x2) / 2) * across) / width, across);
  const top = shift((((y1 + y2) / 2) * down) / height, down);
  layers.style.transform = `translate(${left}px, ${top}px) scale(${factor})`;
  layers.style.setProperty("--zoom", factor);
  showMask(factor);
}
