// What on the stage can be taken hold of: a button that mouse, finger and arrow keys move.

import { reveal, toPicture } from "./stage.js";

const WAYS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

// `value` returns what the button moves now (numbers, or null for nothing), `moved` the same after so many pixels of the
// picture; `changed` is told what has become of it, and whether the movement is done.
export function grabbable(button, { value, moved, changed }) {
  drag(button, value, moved, changed);
  button.addEventListener("keydown", (event) => {
    const way = WAYS[event.key];
    const from = value();
    if (!way || !from || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    event.stopPropagation();
    const step = event.shiftKey ? 10 : 1;
    changed(moved(from, way[0] * step, way[1] * step), true);
    show(button);
  });
  button.addEventListener("focus", () => button.matches(":focus-visible") && show(button));
}

// Bring a button that has the focus to where it can be seen: where it is once what is waiting has been drawn.
const show = (button) =>
  requestAnimationFrame(() => reveal(parseFloat(button.style.left), parseFloat(button.style.top)));

function drag(button, value, moved, changed) {
  let from = null;
  let grabbed = null;
  button.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || !value()) return;
    event.preventDefault();
    event.stopPropagation();
    button.focus({ preventScroll: true });
    button.setPointerCapture(event.pointerId);
    from = [...value()];
    grabbed = toPicture(event.clientX, event.clientY);
  });
  const to = (event) => {
    const [x, y] = toPicture(event.clientX, event.clientY);
    return moved(from, x - grabbed[0], y - grabbed[1]).map((number) => Math.round(number * 10) / 10);
  };
  button.addEventListener("pointermove", (event) => {
    if (!value()) from = null; // another answer is shown by now
    if (from) changed(to(event), false);
  });
  button.addEventListener("pointerup", (event) => {
    if (!from || !value()) return;
    const last = to(event);
    const still = last.every((number, at) => Math.abs(number - from[at]) < 0.05);
    from = null;
    if (!still) changed(last, true);
  });
  button.addEventListener("pointercancel", () => {
    if (from && value()) changed(from, true);
    from = null;
  });
}
