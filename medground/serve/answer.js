// One answer: what is said of it beside the picture.

import { $, element } from "./dom.js";
import { claims, notes, places } from "./entries.js";
import { COLOURS, point } from "./stage.js";

// How reasoning writes where what it has just named lies; the end may not be there yet.
const REGION = /\s*\(region(?: \[[^\]]*(?:\]\)?)?|$)/g;
const STATES = {
  asking: "thinking",
  found: "found",
  absent: "not in this picture",
  nowhere: "no place given",
  answered: "answered",
  failed: "failed",
  stopped: "stopped",
};
const MARKS = {
  true: ["agrees", "the mask agrees"],
  false: ["speaks-against", "the mask speaks against this"],
};
const CLASSES = { asking: "working", found: "accept", answered: "accept", failed: "reject" };

export const inBox = (box) => box.map((value) => Math.round(value)).join(", ");
export const active = (entry) => entry?.regions[entry.chosenRegion];

// Point at a box in the picture while a part of the text is under the mouse or has the focus.
function pointing(part, box) {
  for (const [event, at] of [["mouseenter", box], ["focus", box], ["mouseleave", null], ["blur", null]]) {
    part.addEventListener(event, () => point(at));
  }
}

const words = ({ kind, reasoning }) => (kind === "ask" ? reasoning.replace(REGION, "") : reasoning);

// The reasoning, in which what has a place can be pointed at.
function mentioning(entry) {
  const parts = [];
  let rest = words(entry);
  for (const { ref, box } of entry.mentions) {
    const at = rest.toLowerCase().indexOf(ref.toLowerCase());
    if (at < 0) continue;
    const mention = element("button", rest.slice(at, at + ref.length), "mention");
    mention.type = "button";
    mention.title = `at ${inBox(box)}`;
    pointing(mention, box);
    parts.push(document.createTextNode(rest.slice(0, at)), mention);
    rest = rest.slice(at + ref.length);
  }
  return [...parts, document.createTextNode(rest)];
}

// The reasoning, in which what the mask confirms is marked, and what it speaks against.
function marked(entry) {
  const letters = [...entry.reasoning]; // the server counts code points
  const parts = [];
  let done = 0;
  for (const { start, end, agrees } of claims(entry)) {
    if (agrees === null || start < done) continue;
    const [className, told] = MARKS[agrees];
    const mark = element("span", letters.slice(start, end).join(""), `claim ${className}`);
    mark.title = told;
    mark.append(element("span", ` (${told})`, "unseen"));
    parts.push(document.createTextNode(letters.slice(done, start).join("")), mark);
    done = end;
  }
  return [...parts, document.createTextNode(letters.slice(done).join(""))];
}

const reasoned = (entry) => (entry.kind === "ask" ? mentioning(entry) : marked(entry));

function facts(entry) {
  const rows = [];
  const add = (name, text) => text && rows.push(element("dt", name), element("dd", text));
  const region = active(entry);
  const { width, height } = entry.size;
  const spacing = entry.spacing; // mm between rows, between columns
  if (region) {
    const [x1, y1, x2, y2] = region.box;
    const [across, down] = [x2 - x1, y2 - y1];
    const mm = spacing ? ` · ${(across * spacing[1]).toFixed(1)} × ${(down * spacing[0]).toFixed(1)} mm` : "";
    add("Box", inBox(region.box));
    add("Size", `${Math.round(across)} × ${Math.round(down)} px${mm}`);
    if (region.mask) {
      const share = (100 * region.area) / (width * height);
      const square = spacing ? ` · ${((region.area * spacing[0] * spacing[1]) / 100).toFixed(2)} cm²` : "";
      add("Mask", `${region.area.toLocaleString("en")} px · ${share < 0.01 ? "under 0.01" : share.toFixed(2)} %${square}`);
    }
  }
  add("Shown", entry.where);
  if (entry.reasoner) add("By", [entry.reasoner, entry.segmenter].filter((name) => name && name !== "none").join(", "));
  return rows;
}

function choices(entry) {
  return entry.choices.map((choice, number) => {
    const item = element("li", choice, entry.chosen.includes(choice) ? "chosen" : undefined);
    item.prepend(element("span", String.fromCharCode(65 + number), "letter"));
    if (entry.chosen.includes(choice)) item.append(element("span", " (chosen)", "unseen"));
    return item;
  });
}

function regions(entry, choose) {
  return entry.regions.map(({ ref, box }, number) => {
    const button = element("button", ref || "target", "region");
    button.type = "button";
    button.setAttribute("aria-pressed", number === entry.chosenRegion);
    const swatch = element("span", undefined, "swatch");
    swatch.style.background = COLOURS[number % COLOURS.length];
    button.prepend(swatch);
    button.append(element("span", inBox(box), "soft"));
    button.addEventListener("click", () => choose(number));
    pointing(button, box);
    const item = element("li");
    item.append(button);
    return item;
  });
}

// Put new parts into a list; the focus stays on the button in the same place.
function renew(list, parts) {
  const focused = [...list.querySelectorAll("button")].indexOf(document.activeElement);
  list.replaceChildren(...parts);
  if (focused >= 0) list.querySelectorAll("button")[focused]?.focus({ preventScroll: true });
}

export const stateWords = (entry) => entry.waiting || STATES[entry.state];

// The reasoning as it is written: only what is new is added.
export function more(entry) {
  const shown = $("reasoning").textContent;
  const now = words(entry);
  if (now.startsWith(shown)) $("reasoning").append(now.slice(shown.length));
  else $("reasoning").textContent = now;
  $("reasoning-part").hidden = !entry.reasoning;
}

export function status(entry) {
  $("verdict").textContent = stateWords(entry);
  $("verdict").className = `badge ${CLASSES[entry.state] ?? "absent"}`;
  $("changed").hidden = !entry.regions.some(({ corrected }) => corrected);
  $("accepted").hidden = !entry.accepted;
}

// What can be dragged, and what the mask makes of it.
function hint(region, { segmenter, prompts }) {
  const points = places(region).length > 0;
  const drag = points ? "Drag the handles and points until they are right" : "Drag the handles until the box is right";
  const follows = segmenter === "none" ? ""
    : prompts.includes("points") ? ` The mask follows ${points ? "both" : "it"}.`
      : ` The mask follows the box${points ? ` alone: ${segmenter} takes no points` : ""}.`;
  return `${drag}; what is accepted can be saved.${follows}`;
}

export function showAnswer(entry, models, choose) {
  $("answer").hidden = !entry;
  point(null);
  if (!entry) return;
  status(entry);
  $("answer").setAttribute("aria-busy", entry.state === "asking");
  $("asked").textContent = entry.question;
  $("said-answer").textContent = entry.answer;
  $("said-answer").hidden = !entry.answer || entry.choices.length > 0;
  $("chosen").replaceChildren(...choices(entry));
  $("chosen").hidden = !entry.choices.length;
  renew($("reasoning"), entry.state === "asking" ? [words(entry)] : reasoned(entry));
  $("reasoning-part").hidden = !entry.reasoning;
  renew($("regions"), regions(entry, choose));
  $("regions-part").hidden = entry.kind !== "ask" || !entry.regions.length;
  for (const mark of $("marks").children) mark.hidden = !$("reasoning").querySelector(`.claim.${mark.classList[1]}`);
  $("marks").hidden = !$("reasoning").querySelector(".claim");
  $("notes").replaceChildren(...notes(entry).map((note) => element("li", note)));
  $("notes").hidden = !notes(entry).length;
  $("facts").replaceChildren(...facts(entry));
  const done = !["asking", "failed", "stopped"].includes(entry.state);
  const place = active(entry);
  $("correct-button").hidden = !place;
  $("revert").hidden = !entry.regions.some(({ corrected }) => corrected);
  $("decide").hidden = !done;
  $("accept").hidden = entry.accepted;
  $("accept-hint").hidden = entry.accepted || !done || !place;
  if (place) $("accept-hint").textContent = hint(place, models);
  $("save").hidden = !entry.accepted;
  if (entry.accepted && document.activeElement !== $("label")) $("label").value = entry.label;
}

const answered = ({ chosen, answer }) => (chosen.length ? `${answer} (${chosen.join(", ")})` : answer);

// All that was said: files have no other place for the answer to a visual question than beside its reasoning.
export const spoken = (entry) =>
  entry.kind === "ask" ? [entry.reasoning, `Answer: ${answered(entry)}`].filter(Boolean).join("\n") : entry.reasoning;

// One sentence for a screen reader.
export function summary(entry) {
  const place = active(entry);
  if (entry.state === "found") return `Found: box ${inBox(place.box)}${place.mask ? ", with a mask" : ", without a mask"}.`;
  if (entry.state === "answered") {
    const many = entry.regions.length === 1 ? "1 region" : `${entry.regions.length} regions`;
    return `Answer: ${answered(entry)}. ${many}.`;
  }
  return `${STATES[entry.state]}.`;
}

// ------------------------------------------------------------------ history

// A small picture of the stage's picture with what was found.
export function thumbnail(entry) {
  const canvas = element("canvas");
  canvas.setAttribute("aria-hidden", "true");
  const side = 96;
  [canvas.width, canvas.height] = [side, side];
  const { width, height } = entry.size;
  const scale = Math.max(side / width, side / height);
  const [x, y] = [(side - width * scale) / 2, (side - height * scale) / 2];
  const context = canvas.getContext("2d");
  context.drawImage($("image"), x, y, width * scale, height * scale);
  entry.regions.forEach(({ box }, number) => {
    const [x1, y1, x2, y2] = box;
    context.lineWidth = 3;
    context.strokeStyle = COLOURS[entry.kind === "ask" ? number % COLOURS.length : 1];
    context.strokeRect(x + x1 * scale, y + y1 * scale, (x2 - x1) * scale, (y2 - y1) * scale);
  });
  return canvas;
}

export function showHistory(entries, current, choose) {
  $("history-part").hidden = entries.length < 2;
  const items = entries.map((entry) => {
    const button = element("button", undefined, "past");
    button.type = "button";
    if (entry === current) button.setAttribute("aria-current", "true");
    const text = element("span", undefined, "past-text");
    const state = [entry.name, stateWords(entry), entry.accepted && "accepted"].filter(Boolean).join(" · ");
    text.append(element("span", entry.question, "past-question"), element("span", state, "soft"));
    button.append(entry.thumbnail, text);
    button.addEventListener("click", () => choose(entry));
    const item = element("li");
    item.append(button);
    return item;
  });
  renew($("history"), items.reverse());
}
