// Which picture of a file is shown: plane, slice or frame, window.

import { $ } from "./dom.js";
import { ask } from "./requests.js";
import { showPicture } from "./stage.js";

const KEPT = 48; // pictures

let file = null; // what the server said of it
let view = {}; // axis, slice, frame, window as requests name them
let pictures = new Map(); // view in words -> promise of a URL
let wanted = null; // the view to be shown next
let loading = null; // the promise under way
let told = {}; // who is told what happens

export const viewNow = () => ({ ...view });
export const sameView = (one, other) => ["axis", "slice", "frame"].every((name) => one[name] === other[name]);
// Views as people count.
export function inWords({ axis, slice, frame }) {
  const parts = [];
  if (slice !== undefined) parts.push(`${axis} slice ${slice + 1}`);
  if (file?.frames > 1 && frame !== undefined) parts.push(`${file.kind === "tiff" ? "page" : file.axes ? "volume" : "frame"} ${frame + 1}`);
  return parts.join(", ");
}

function inQuery({ axis, slice, frame, window }) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries({ axis, slice, frame })) if (value !== undefined) query.set(name, value);
  if (window) query.set("window", window.join(","));
  return query.toString();
}

function forgetPictures() {
  for (const picture of pictures.values()) picture.then(URL.revokeObjectURL, () => {});
  pictures = new Map();
}

function picture(at) {
  const query = inQuery(at);
  if (!pictures.has(query)) {
    const path = () => `v1/images/${encodeURIComponent(file.image)}/view.png${query ? `?${query}` : ""}`;
    const made = ask(path()).catch((error) => {
      if (error.status !== 404) throw error;
      return told.renew().then(() => ask(path()));
    }).then((answer) => answer.blob()).then((blob) => URL.createObjectURL(blob));
    made.catch(() => pictures.get(query) === made && pictures.delete(query));
    pictures.set(query, made);
    for (const old of [...pictures.keys()].slice(0, -KEPT)) {
      pictures.get(old).then(URL.revokeObjectURL, () => {});
      pictures.delete(old);
    }
  }
  return pictures.get(query);
}

// ------------------------------------------------------------------ showing

// Show a file's picture, at a view that was left before or as the file says. The promise ends when it is shown.
export async function showFile(found, at) {
  forgetPictures();
  file = found;
  const first = {};
  if (file.axes) Object.assign(first, { axis: file.axis, slice: file.slice });
  if (file.frames > 1) first.frame = file.frame;
  view = at ? { ...at } : first;
  $("axis").replaceChildren(...Object.keys(file.axes ?? {}).map((axis) => new Option(axis, axis)));
  controls();
  await show();
}

// The file is the same, and the server has it under a new name.
export function renamed(found) {
  file = { ...file, image: found.image };
}

// Show the view as it is now. Of many wishes while a picture is loading, the latest is next.
function show() {
  wanted = { ...view };
  loading ??= (async () => {
    try {
      while (wanted) {
        const next = wanted;
        wanted = null;
        const of = file;
        try {
          const url = await picture(next);
          if (of === file) await showPicture(url, [$("source").textContent, inWords(next)].filter(Boolean).join(", "));
        } catch (error) {
          if (of === file && !wanted) throw error; // else nobody waits for it any more
        }
      }
    } finally {
      loading = null;
    }
    told.shown();
    ahead();
  })();
  return loading;
}

const go = () => {
  controls();
  show().catch(told.failed);
};

// What is likely to be asked for next.
function ahead() {
  const [name, count] = counted();
  if (!name || wanted) return;
  for (const by of [1, -1]) {
    const next = view[name] + by;
    if (next >= 0 && next < count) picture({ ...view, [name]: next }).catch(() => {});
  }
}

// ------------------------------------------------------------------ controls

// What scrolling goes through, and how many there are.
function counted() {
  if (file?.axes) return ["slice", file.axes[view.axis]];
  return file?.frames > 1 ? ["frame", file.frames] : [null, 1];
}

const grey = () => Boolean(file?.window);
const windowNow = () => view.window ?? file.window;

function controls() {
  const [name, count] = counted();
  $("axis-part").hidden = !file.axes;
  $("slice-part").hidden = count < 2;
  $("volume-part").hidden = !file.axes || file.frames < 2;
  $("window-part").hidden = !grey();
  $("series").hidden = !file.axes && count < 2 && !grey();
  if (file.axes) $("axis").value = view.axis;
  if (document.activeElement !== $("volume")) $("volume").value = (view.frame ?? 0) + 1;
  $("volume").max = file.frames;
  if (name) {
    $("slice-name").textContent = name === "slice" ? "Slice" : file.kind === "tiff" ? "Page" : "Frame";
    $("slice").max = count;
    $("slice").value = view[name] + 1;
    $("slice").setAttribute("aria-valuetext", `${view[name] + 1} of ${count}`);
    $("slice-text").textContent = `${view[name] + 1} / ${count}`;
  }
  if (grey()) {
    const [level, width] = windowNow();
    for (const [id, value] of [["level", level], ["width", width]]) {
      if (document.activeElement !== $(id)) $(id).value = rounded(value);
    }
    $("window-reset").setAttribute("aria-disabled", !view.window);
  }
}

const rounded = (value) => Number(value.toPrecision(4));

// Go on by so many slices, and tell whether there are several at all.
export function scroll(by) {
  const [name, count] = counted();
  if (!name || count < 2) return false;
  const next = Math.min(count - 1, Math.max(0, view[name] + by));
  if (next !== view[name]) {
    view[name] = next;
    go();
  }
  return true;
}

export function turn(axis) {
  if (!file?.axes) return null;
  const axes = Object.keys(file.axes);
  view.axis = axis ?? axes[(axes.indexOf(view.axis) + 1) % axes.length];
  view.slice = view.axis === file.axis ? file.slice : Math.floor(file.axes[view.axis] / 2);
  go();
  return view.axis;
}

export const canWindow = grey;

export function setWindow(window) {
  if (!grey()) return;
  const [, usual] = file.window;
  view.window = window && [rounded(window[0]), Math.max(rounded(window[1]), usual / 1e4)];
  if (!view.window) delete view.window;
  go();
}

// Dragging by the stage's side changes the window by about its own width.
export function dragWindow(x, y) {
  const [level, width] = windowNow();
  const step = Math.max(width, file.window[1] / 50) / 300;
  setWindow([level + y * step, Math.max(width + 2 * x * step, file.window[1] / 1000)]);
}

export function goTo(at) {
  view = { ...at };
  go();
}

// `shown` when a picture is, `failed` why it isn't, `renew` when the server has forgotten the file.
export function listen(callbacks) {
  told = callbacks;
  $("axis").addEventListener("change", () => turn($("axis").value));
  $("slice").addEventListener("input", () => {
    const [name] = counted();
    scroll(Number($("slice").value) - 1 - view[name]);
  });
  $("volume").addEventListener("input", () => {
    const frame = $("volume").valueAsNumber - 1;
    if (!Number.isInteger(frame) || frame < 0 || frame >= file.frames) return;
    view.frame = frame;
    go();
  });
  for (const id of ["level", "width"]) {
    $(id).addEventListener("input", () => {
      const [level, width] = [$("level"), $("width")].map((field) => field.valueAsNumber);
      if (Number.isFinite(level) && width > 0) setWindow([level, width]);
    });
  }
  for (const id of ["level", "width", "volume"]) $(id).addEventListener("blur", controls);
  $("window-reset").addEventListener("click", () => setWindow(null));
}
