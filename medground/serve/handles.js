// The handles of a box: edges, corners and a grip, by mouse, finger or arrow keys.

import { $, element } from "./dom.js";
import { grabbable } from "./grab.js";
import { follow, size, toStage } from "./stage.js";

const HANDLES = { // which of x1, y1, x2, y2 each one moves
  move: ["Whole box", [0, 1, 2, 3]],
  nw: ["Top left corner", [0, 1]],
  n: ["Top edge", [1]],
  ne: ["Top right corner", [2, 1]],
  e: ["Right edge", [2]],
  se: ["Bottom right corner", [2, 3]],
  s: ["Bottom edge", [3]],
  sw: ["Bottom left corner", [0, 3]],
  w: ["Left edge", [0]],
};
const SMALLEST = 2; // pixels of the picture

let box = null;
const buttons = {};

// Move what a handle moves, and keep the box in the picture and a box.
export function moved(from, handle, x, y, { width, height }) {
  const ends = HANDLES[handle][1];
  if (ends.length === 4) {
    const right = Math.min(width - from[2], Math.max(-from[0], x));
    const low = Math.min(height - from[3], Math.max(-from[1], y));
    return [from[0] + right, from[1] + low, from[2] + right, from[3] + low];
  }
  const next = [...from];
  for (const end of ends) {
    const at = from[end] + (end % 2 ? y : x);
    const most = end % 2 ? height : width;
    next[end] = end < 2
      ? Math.min(Math.max(0, at), Math.max(0, from[end + 2] - SMALLEST))
      : Math.max(Math.min(most, at), Math.min(most, from[end - 2] + SMALLEST));
  }
  return next;
}

export function showHandles(around) {
  box = around;
  $("handles").hidden = !box;
  place();
}

export const focusHandle = () => buttons.nw.focus();

// Where the grip finds room: off a corner, outside the box if it can be.
function grip(left, top, right, bottom) {
  const { clientWidth, clientHeight } = $("stage");
  const [away, rim] = [24, 16];
  const x = right + away <= clientWidth - rim ? right + away : left - away >= rim ? left - away : right - away;
  const y = top - away >= rim ? top - away : bottom + away <= clientHeight - rim ? bottom + away : top + away;
  return [Math.min(clientWidth - rim, Math.max(rim, x)), Math.min(clientHeight - rim, Math.max(rim, y))];
}

function place() {
  if (!box || !size()) return;
  const [[left, top], [right, bottom]] = [toStage(box.slice(0, 2)), toStage(box.slice(2))];
  const [x, y] = [(left + right) / 2, (top + bottom) / 2];
  const places = {
    nw: [left, top], n: [x, top], ne: [right, top], e: [right, y], se: [right, bottom], s: [x, bottom], sw: [left, bottom],
    w: [left, y], move: grip(left, top, right, bottom),
  };
  const numbers = box.map(Math.round);
  for (const [name, button] of Object.entries(buttons)) {
    button.style.left = `${places[name][0]}px`;
    button.style.top = `${places[name][1]}px`;
    // Middles of short edges would lie upon the corners.
    const short = (/^[ns]$/.test(name) && right - left < 48) || (/^[ew]$/.test(name) && bottom - top < 48);
    button.classList.toggle("crowded", short);
    const ends = HANDLES[name][1];
    const where = ends.length === 4 ? numbers.join(", ") : ends.map((end) => numbers[end]).join(", ");
    button.setAttribute("aria-label", `${HANDLES[name][0]}, ${where}`);
  }
}

// `changed` is told the new box, and whether the movement is done.
export function listen(changed) {
  for (const name of Object.keys(HANDLES)) {
    const button = element("button", undefined, `handle ${name}`);
    button.type = "button";
    button.setAttribute("aria-describedby", "handle-hint");
    buttons[name] = button;
    grabbable(button, { value: () => box, moved: (from, x, y) => moved(from, name, x, y, size()), changed });
  }
  $("handles").replaceChildren(...Object.values(buttons));
  follow(place);
  showHandles(null);
}
