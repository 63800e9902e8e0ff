// Fingers, mouse and wheel on the stage: pan, pinch, window, draw a box, scroll slices.

import { $ } from "./dom.js";
import { isZoomed, panBy, size, toPicture, zoomBy } from "./stage.js";

const down = new Map(); // pointer -> where it is
let mode = "pan"; // what dragging does: "pan", "window" or "draw"
let doing = null; // what the drag that is under way does
let start = null; // in the picture

const middle = () => {
  const places = [...down.values()];
  return [0, 1].map((axis) => places.reduce((sum, place) => sum + place[axis], 0) / places.length);
};
const spread = () => {
  const [one, other] = [...down.values()];
  return Math.hypot(one[0] - other[0], one[1] - other[1]);
};

export const dragging = () => mode;

export function dragTo(next) {
  mode = next;
  $("stage").dataset.mode = next;
  $("window-tool").setAttribute("aria-pressed", next === "window");
  $("draw-button").setAttribute("aria-pressed", next === "draw");
}

function boxFrom([x, y]) {
  const { width, height } = size();
  const [left, right] = [start[0], x].map((at) => Math.min(width, Math.max(0, at))).sort((a, b) => a - b);
  const [top, bottom] = [start[1], y].map((at) => Math.min(height, Math.max(0, at))).sort((a, b) => a - b);
  return [left, top, right, bottom].map(Math.round);
}

// `window` is told by how many pixels a drag went on, `draw` the box so far and whether it is done, `scroll` steps.
export function listen({ canWindow, window, draw, scroll }) {
  const stage = $("stage");

  stage.addEventListener("pointerdown", (event) => {
    if (!size() || event.target.closest("button, #welcome, #elsewhere")) return;
    const right = event.button === 2;
    if (event.button !== 0 && !right && event.button !== 1) return;
    event.preventDefault();
    stage.focus({ preventScroll: true });
    stage.setPointerCapture(event.pointerId);
    down.set(event.pointerId, [event.clientX, event.clientY]);
    if (down.size === 1) {
      start = toPicture(event.clientX, event.clientY);
      doing = right ? (canWindow() ? "window" : "pan") : mode;
    } else if (doing === "draw") {
      draw(null, true); // a second finger: it was a pinch
      doing = "pan";
    }
  });

  stage.addEventListener("pointermove", (event) => {
    if (!down.has(event.pointerId)) return;
    const [before, apart] = [middle(), down.size > 1 ? spread() : 0];
    down.set(event.pointerId, [event.clientX, event.clientY]);
    const after = middle();
    const [x, y] = [after[0] - before[0], after[1] - before[1]];
    if (down.size > 1) {
      panBy(x, y);
      zoomBy(spread() / (apart || 1), ...after);
    } else if (doing === "window") window(x, y);
    else if (doing === "draw") draw(boxFrom(toPicture(event.clientX, event.clientY)), false);
    else panBy(x, y);
  });

  const up = (event) => {
    if (!down.delete(event.pointerId) || down.size) return;
    if (doing === "draw") {
      const box = boxFrom(toPicture(event.clientX, event.clientY));
      draw(event.type === "pointerup" && box[2] - box[0] > 1 && box[3] - box[1] > 1 ? box : null, true);
    }
    doing = null;
  };
  stage.addEventListener("pointerup", up);
  stage.addEventListener("pointercancel", up);
  stage.addEventListener("contextmenu", (event) => canWindow() && event.preventDefault());

  let turned = 0; // of the wheel, since the last slice
  stage.addEventListener("wheel", (event) => {
    if (!size() || event.target.closest("#welcome")) return;
    const pixels = event.deltaY * (event.deltaMode ? 30 : 1);
    if (!event.ctrlKey && !event.metaKey && scroll(0)) {
      turned += pixels;
      const steps = Math.trunc(turned / 40);
      turned -= steps * 40;
      if (steps) scroll(Math.sign(steps) * Math.min(Math.abs(steps), 4));
    } else zoomBy(Math.exp(-pixels / 300), event.clientX, event.clientY);
    event.preventDefault();
  }, { passive: false });

  stage.addEventListener("keydown", (event) => {
    const way = { ArrowLeft: [40, 0], ArrowRight: [-40, 0], ArrowUp: [0, 40], ArrowDown: [0, -40] }[event.key];
    if (event.target !== stage || !way || !isZoomed()) return;
    event.preventDefault();
    panBy(...way);
  });
}
