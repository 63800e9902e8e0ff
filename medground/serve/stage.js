// The picture on its stage: zoom, pan, and what is drawn over it. Places are source pixels, counted from the picture's
// top left edge; the stage's own pixels are the browser's.

import { $, shape } from "./dom.js";
import { drawMask } from "./mask.js";

export const COLOURS = ["#56b4e9", "#e69f00", "#00b98a", "#e68fc3", "#f0e442", "#ff7f32"]; // Okabe-Ito, brightened for black
const MOST = 40; // times the fitted size

const layers = { mask: true, box: true, points: true };
const look = { zoom: 1, x: 0, y: 0 }; // x, y: where the picture's top left lies on the stage
let picture = null; // { width, height }
let regions = []; // { box, points, mask: canvas or null, active }
let highlight = null; // a box that is pointed at
let opacity = 0.3;
let waiting = false;
const followers = [];

export const size = () => picture;
export const isZoomed = () => look.zoom > 1.001;
// Call back whenever places on the stage have moved.
export const follow = (callback) => followers.push(callback);

const scale = () => {
  const { clientWidth, clientHeight } = $("stage");
  return look.zoom * Math.min(clientWidth / picture.width, clientHeight / picture.height);
};
export const toStage = ([x, y]) => [look.x + x * scale(), look.y + y * scale()];

// Where in the picture a place of the window lies.
export function toPicture(clientX, clientY) {
  const { left, top } = $("stage").getBoundingClientRect();
  return [(clientX - left - look.x) / scale(), (clientY - top - look.y) / scale()];
}

// Show a picture; a picture of the same size keeps its zoom and place.
export async function showPicture(url, alt) {
  const next = new Image();
  next.src = url;
  await next.decode();
  const { naturalWidth: width, naturalHeight: height } = next;
  const same = picture?.width === width && picture?.height === height;
  picture = { width, height };
  $("image").src = url;
  $("image").alt = alt;
  $("image").hidden = false;
  await $("image").decode().catch(() => {}); // overtaken by the next one
  if (!same) fit();
  else redraw();
}

export function showRegions(shown) {
  regions = shown;
  redraw();
}

export function point(at) {
  highlight = at;
  redraw();
}

export function setOpacity(value) {
  opacity = value;
  redraw();
}

// Show or hide the mask, the box or the points, by default the other way round, and return which it is now.
export function toggle(name, shown = !layers[name]) {
  layers[name] = shown;
  $(`show-${name}`).setAttribute("aria-pressed", shown);
  $("stage").classList.toggle(`no-${name}`, !shown); // handles go with what they move
  redraw();
  return layers[name] ? "shown" : "hidden";
}

// ------------------------------------------------------------------ zoom and pan

function bound() {
  const { clientWidth, clientHeight } = $("stage");
  const within = (at, side, whole) => (side <= whole ? (whole - side) / 2 : Math.min(0, Math.max(whole - side, at)));
  look.x = within(look.x, picture.width * scale(), clientWidth);
  look.y = within(look.y, picture.height * scale(), clientHeight);
}

export function fit() {
  if (!picture) return;
  look.zoom = 1;
  redraw();
}

// Zoom by a factor and keep in place what lies at a place of the window, the stage's middle by default.
export function zoomBy(factor, clientX, clientY) {
  if (!picture) return;
  const { left, top, width, height } = $("stage").getBoundingClientRect();
  const [atX, atY] = [(clientX ?? left + width / 2) - left, (clientY ?? top + height / 2) - top];
  const before = scale();
  look.zoom = Math.min(MOST, Math.max(1, look.zoom * factor));
  const grown = scale() / before;
  look.x = atX - (atX - look.x) * grown;
  look.y = atY - (atY - look.y) * grown;
  redraw();
}

export function panBy(x, y) {
  if (!picture) return;
  look.x += x;
  look.y += y;
  redraw();
}

// Move the picture so far that a place of the stage can be seen.
export function reveal(x, y) {
  const { clientWidth, clientHeight } = $("stage");
  const rim = 24;
  const step = (at, whole) => Math.min(whole - rim, Math.max(rim, at)) - at;
  if (step(x, clientWidth) || step(y, clientHeight)) panBy(step(x, clientWidth), step(y, clientHeight));
}

// Bring a box near, or show the whole picture where it is near already.
export function near([x1, y1, x2, y2]) {
  const { clientWidth, clientHeight } = $("stage");
  const whole = scale() / look.zoom;
  const wanted = 0.45 * Math.min(clientWidth / ((x2 - x1) * whole), clientHeight / ((y2 - y1) * whole));
  const target = Math.min(12, Math.max(1.5, wanted));
  if (Math.abs(look.zoom - target) < 0.01) return fit();
  look.zoom = target;
  look.x = clientWidth / 2 - ((x1 + x2) / 2) * scale();
  look.y = clientHeight / 2 - ((y1 + y2) / 2) * scale();
  return redraw();
}

// ------------------------------------------------------------------ drawing

export function redraw() {
  if (waiting || !picture) return;
  waiting = true;
  requestAnimationFrame(() => {
    waiting = false;
    draw();
  });
}

function draw() {
  bound();
  const at = scale();
  const image = $("image");
  image.style.width = `${picture.width}px`;
  image.style.height = `${picture.height}px`;
  image.style.transform = `translate(${look.x}px, ${look.y}px) scale(${at})`;
  image.style.imageRendering = at > 3 ? "pixelated" : "auto";
  $("zoom-text").textContent = `${Math.round(100 * look.zoom)} %`;
  $("stage").classList.toggle("zoomed", isZoomed());
  drawMasks(at);
  drawShapes();
  for (const callback of followers) callback();
}

let painted = []; // what the masks' canvas shows

function drawMasks(at) {
  const canvas = $("masks");
  const { clientWidth, clientHeight } = $("stage");
  const ratio = window.devicePixelRatio || 1;
  const [width, height] = [Math.round(clientWidth * ratio), Math.round(clientHeight * ratio)];
  const place = [look.x, look.y, picture.width * at, picture.height * at].map((value) => value * ratio);
  const shown = layers.mask ? regions.filter(({ mask }) => mask) : [];
  const paint = [width, height, opacity, ...place, ...shown.map(({ mask }) => mask)];
  if (paint.length === painted.length && paint.every((value, number) => value === painted[number])) return;
  painted = paint;
  [canvas.width, canvas.height] = [width, height];
  const context = canvas.getContext("2d");
  for (const region of shown) {
    const colour = COLOURS[regions.indexOf(region) % COLOURS.length];
    drawMask(context, region.mask, place, { colour, reach: 1.5 * ratio, fill: opacity, bounds: region.bounds });
  }
}

function drawShapes() {
  const shapes = [];
  const rectangle = ([x1, y1, x2, y2], className, colour) => {
    const [[left, top], [right, bottom]] = [toStage([x1, y1]), toStage([x2, y2])];
    const place = { x: left, y: top, width: right - left, height: bottom - top };
    const line = shape("rect", className, place);
    if (colour) line.style.stroke = colour;
    shapes.push(shape("rect", "under", place), line);
  };
  regions.forEach(({ box, active }, number) => {
    const colour = regions.length > 1 ? COLOURS[number % COLOURS.length] : undefined;
    if (box && layers.box) rectangle(box, active ? "box active" : "box", colour);
  });
  for (const { points, active } of regions) {
    if (!layers.points || !active) continue;
    for (const [x, y] of points.map(toStage)) {
      shapes.push(shape("circle", "rim", { cx: x, cy: y, r: 6.5 }), shape("circle", "point", { cx: x, cy: y, r: 4.5 }));
    }
  }
  if (highlight) rectangle(highlight, "highlight");
  $("shapes").replaceChildren(...shapes);
}

new ResizeObserver(redraw).observe($("stage"));
