// The handles of the key points, by mouse, finger or arrow keys.

import { $, element } from "./dom.js";
import { grabbable } from "./grab.js";
import { follow, size, toStage } from "./stage.js";

let points = []; // places in the picture
let bounds = null; // the box that they lie in
let changed = () => {};
const buttons = []; // kept when points come and go, so that the one that is dragged stays itself

// Move a point, and keep it in its box: it is on the target, and the target in the box.
export function within([x1, y1, x2, y2], [x, y], right, low) {
  return [Math.min(x2, Math.max(x1, x + right)), Math.min(y2, Math.max(y1, y + low))];
}

export function showPoints(places, box) {
  [points, bounds] = [places, box];
  while (buttons.length < points.length) buttons.push(made(buttons.length));
  $("point-handles").hidden = !points.length;
  place();
}

export const focusPoint = () => buttons[0].focus();

function made(number) {
  const button = element("button", undefined, "handle point");
  button.type = "button";
  button.setAttribute("aria-describedby", "handle-hint");
  grabbable(button, {
    value: () => points[number] ?? null,
    moved: (from, x, y) => within(bounds, from, x, y),
    changed: (to, done) => changed(number, to, done),
  });
  $("point-handles").append(button);
  return button;
}

function place() {
  if (!size()) return;
  buttons.forEach((button, number) => {
    const at = points[number];
    button.hidden = !at;
    if (!at) return;
    const [x, y] = toStage(at);
    button.style.left = `${x}px`;
    button.style.top = `${y}px`;
    button.setAttribute("aria-label", `Point ${number + 1}, ${at.map(Math.round).join(", ")}`);
  });
}

// `change` is told the number of a point, where it is now, and whether the movement is done.
export function listen(change) {
  changed = change;
  follow(place);
  showPoints([], null);
}
