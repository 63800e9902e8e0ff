// medground's page: an image, a question, an answer that can be corrected, accepted and saved.

import { active, inBox, more, showAnswer, showHistory, spoken, status, summary, thumbnail } from "./answer.js";
import { $ } from "./dom.js";
import { correct, drawn, finished, located, movePoint, newEntry, places, rest, revert, setMask, wake } from "./entries.js";
import { patiently, question } from "./events.js";
import { follow, listen as listenToMasks, settled } from "./following.js";
import { dragging, dragTo, listen as listenToGestures } from "./gestures.js";
import { focusHandle, listen as listenToHandles, showHandles } from "./handles.js";
import { listen as listenToKeys } from "./keys.js";
import { listen as listenToFiles, send, showExamples } from "./open.js";
import { focusPoint, listen as listenToPoints, showPoints } from "./points.js";
import { ask, get, Refused } from "./requests.js";
import { download, showFormats } from "./save.js";
import * as series from "./series.js";
import * as stage from "./stage.js";
import { alertOf, complain, say, sentence } from "./telling.js";
import { listen as listenToToken } from "./token.js";

let models = {};
let source = null; // { file or example, name, found: what the server said of it }
let entry = null; // the answer that is shown
let asking = null; // stops the question that is under way
const entries = [];

// ------------------------------------------------------------------ the image

let opening = 0;

async function open(next, at) {
  const number = ++opening;
  stop();
  complain("");
  $("loading-text").textContent = "Reading the image";
  $("loading").hidden = false;
  say("Reading the image.");
  try {
    const waiting = (left) => ($("loading-text").textContent = `The server is busy; next try in ${left} s`);
    if (!next.found) next.found = await patiently(() => send(next), { waiting });
    if (number !== opening) return false;
    source = next;
    entry = null;
    describe();
    $("welcome").hidden = true;
    $("tools").hidden = false;
    document.body.classList.add("working");
    await series.showFile(source.found, at);
  } catch (error) {
    if (number === opening) alertOf(error, () => open(next, at));
    return false;
  } finally {
    if (number === opening) $("loading").hidden = true;
  }
  if (number !== opening) return false;
  showFormats(source.found.kind, save);
  if (source.question && !$("question").value.trim()) $("question").value = source.question;
  show();
  say(`${$("source").textContent} is open.`);
  return true;
}

function describe() {
  const { kind, width, height, modality, frames, axes } = source.found;
  const many = axes ? "" : frames > 1 ? `${frames} frames` : "";
  const parts = [source.name, modality, kind.toUpperCase(), many, `${width} × ${height}`].filter(Boolean);
  $("source").textContent = parts.join(" · ");
  $("source").hidden = false;
  $("question").placeholder = "Where is …? What would …?";
}

// The server forgets images after a while: it is given this one again.
function renew(of = source) {
  of.renewing ??= send(of).then((found) => {
    of.found = { ...of.found, image: found.image };
    if (of === source) series.renamed(found);
  }).finally(() => {
    of.renewing = null;
  });
  return of.renewing;
}

async function held(act, of = source) {
  try {
    return await act();
  } catch (error) {
    if (!(error instanceof Refused) || error.status !== 404) throw error;
    await renew(of);
    return act();
  }
}

const here = () => entry !== null && entry.source === source && series.sameView(entry.view, series.viewNow());
const finishedOne = () => entry !== null && !["asking", "failed", "stopped"].includes(entry.state);

// ------------------------------------------------------------------ showing

function show() {
  for (const other of entries) if (other !== entry) rest(other);
  if (entry) wake(entry);
  showDrawn();
  showHistory(entries, entry, goBack);
  const place = here() && active(entry);
  offerRegion();
  $("near").setAttribute("aria-disabled", !place);
  $("go").setAttribute("aria-disabled", !source || asking !== null);
  $("stop").hidden = asking === null;
}

// Not every model can be asked where something is that has to do with a region.
function offerRegion() {
  const offered = here() && active(entry) && ($("ask").elements.kind.value === "ask" || models.follows_regions);
  $("region-part").hidden = !offered;
  if (!offered) $("region").checked = false;
}

function showDrawn() {
  showAnswer(entry, models, choose);
  drawEntry();
}

function drawEntry() {
  const on = here();
  stage.showRegions(!on ? [] : entry.regions.map(
    (one, number) => ({ ...one, points: places(one), active: number === entry.chosenRegion }),
  ));
  const taken = on && finishedOne() ? active(entry) : null;
  showHandles(taken?.box ?? null);
  showPoints(taken ? places(taken) : [], taken?.box);
  const away = entry?.regions.length > 0 && entry.source === source && !on;
  $("elsewhere").hidden = !away;
  if (away) $("elsewhere").firstElementChild.textContent = `The answer is on ${entry.where}.`;
}

function choose(number) {
  entry.chosenRegion = number;
  show();
  say(`${active(entry).ref} is chosen.`);
}

async function goBack(to) {
  if (to !== entry) {
    if (to.source !== source && !await open(to.source, to.view)) return;
    entry = to;
  }
  if (!here()) series.goTo(entry.view);
  show();
  say(`${entry.question} ${summary(entry)}`);
}

// ------------------------------------------------------------------ asking

const touched = () => matchMedia("(pointer: coarse)").matches;

function stop() {
  asking?.abort();
}

async function askNow() {
  const text = $("question").value.trim();
  if (!source) return complain("Open an image first.");
  if (!text) {
    say("Type a question first.");
    return $("question").focus();
  }
  stop();
  complain("");
  dragTo("pan");
  const kind = $("ask").elements.kind.value;
  const choices = kind === "ask" ? $("choices").value.split("\n").map((line) => line.trim()).filter(Boolean) : [];
  const view = series.viewNow();
  const body = { question: text, ...view, mode: $("reason").checked ? "reason" : "direct" };
  if (kind === "ask") body.choices = choices;
  if ($("region").checked && here() && active(entry)) {
    const earlier = entry.regions.map(({ ref, box }) => ({ ref: ref || "target", box }));
    if (kind === "ask") body.earlier = earlier;
    else body.region = active(entry).box;
  }
  const mine = newEntry({ kind, question: text, choices, source, view, where: series.inWords(view), size: stage.size() });
  mine.thumbnail = thumbnail(mine);
  const control = new AbortController();
  entries.push(mine);
  entry = mine;
  asking = control;
  show();
  say("Asked.");
  if (touched()) document.activeElement.blur(); // the keyboard would cover the answer
  try {
    const result = await held(() => question(`v1/${kind}`, { image: source.found.image, ...body }, {
      signal: control.signal,
      waiting: (left) => {
        mine.waiting = `the server is busy; next try in ${left} s`;
        if (entry === mine) status(mine);
      },
      on: {
        reasoning: (piece) => {
          mine.waiting = "";
          mine.reasoning += piece.text;
          if (entry !== mine) return;
          status(mine);
          more(mine);
        },
        location: (place) => {
          if (kind === "ground") located(mine, place);
          if (entry === mine) drawEntry();
        },
        mask: ({ rle }) => {
          if (mine.regions.length && rle) setMask(mine.regions[0], rle);
          if (entry === mine) drawEntry();
        },
      },
    }));
    mine.waiting = "";
    finished(mine, result);
    if (here() && entry === mine) mine.thumbnail = thumbnail(mine);
  } catch (error) {
    mine.waiting = "";
    mine.state = error.name === "AbortError" ? "stopped" : "failed";
    mine.regions = [];
    if (error instanceof Refused) mine.notes = [sentence(error.message)];
    alertOf(error, askNow);
  } finally {
    if (asking === control) asking = null;
    show();
  }
  if (entry === mine) say(summary(mine));
}

// ------------------------------------------------------------------ correcting

const takesPoints = () => models.prompts.includes("points");

let speaking = 0;

// Say where something is now, once it stays there for a moment.
function sayPlace(text) {
  clearTimeout(speaking);
  speaking = setTimeout(() => say(text), 400);
}

function boxChanged(box, done) {
  const region = active(entry);
  correct(entry, region, box);
  showDrawn();
  if (models.segmenter !== "none") follow(entry, region);
  if (done) sayPlace(`Box ${inBox(box)}`);
}

function pointChanged(number, to, done) {
  const region = active(entry);
  movePoint(entry, region, number, to);
  showDrawn();
  if (takesPoints()) follow(entry, region);
  if (done) sayPlace(`Point ${number + 1} at ${inBox(to)}${takesPoints() ? "" : "; the mask follows the box alone"}`);
}

function startDrawing() {
  if (!finishedOne() || !here()) return;
  const on = dragging() !== "draw";
  dragTo(on ? "draw" : "pan");
  if (!on) return say("No new box.");
  $("stage").focus({ preventScroll: true });
  return say("Drag a box on the picture, or press Enter for one in its middle.");
}

function draw(box, done) {
  stage.point(done ? null : box);
  if (!done) return;
  dragTo("pan");
  if (!box) return;
  const region = drawn(entry, box);
  show();
  if (models.segmenter !== "none") follow(entry, region);
  focusHandle();
}

function drawInTheMiddle() {
  const { width, height } = stage.size();
  draw([width * 0.35, height * 0.35, width * 0.65, height * 0.65].map(Math.round), true);
}

function undo() {
  if (!finishedOne() || !entry.regions.some(({ corrected }) => corrected)) return;
  revert(entry);
  show();
  say("Corrections undone.");
}

// ------------------------------------------------------------------ accepting

async function accept() {
  if (!finishedOne() || entry.accepted) return;
  const mine = entry;
  await settled();
  mine.accepted = true;
  if (entry !== mine) return;
  show();
  say("Accepted. It can be saved now.");
  if (!touched()) $("label").focus();
}

async function save(format) {
  const mine = entry;
  const { rle: mask, box } = active(mine) ?? { rle: null, box: null };
  const points = active(mine) ? places(active(mine)) : [];
  const asked = mine.question;
  const reasoning = spoken(mine);
  const label = $("label").value.trim();
  const body = () => ({ ...mine.view, image: mine.source.found.image, box, points, mask, question: asked, reasoning, label });
  try {
    complain("");
    say(`Saved ${await held(() => download(format, body()), mine.source)}.`);
  } catch (error) {
    alertOf(error, () => save(format));
  }
}

// ------------------------------------------------------------------ start

async function start() {
  models = await get("v1/models");
  $("models").textContent = [models.reasoner, models.segmenter].filter((name) => name && name !== "none").join(" + ");
  $("notice").textContent = models.research_use;
  await showExamples(open);
}

const correctable = () => here() && finishedOne() && active(entry);

// Show what is to be moved, and give it the focus.
function take(layer, focus) {
  stage.toggle(layer, true);
  focus();
}

const KEYS = {
  o: listenToFiles(open, complain),
  q: () => $("question").focus(),
  m: () => say(`mask ${stage.toggle("mask")}`),
  b: () => say(`box ${stage.toggle("box")}`),
  p: () => say(`points ${stage.toggle("points")}`),
  "+": () => stage.zoomBy(1.25),
  "=": () => stage.zoomBy(1.25),
  "-": () => stage.zoomBy(0.8),
  0: stage.fit,
  z: () => here() && active(entry) && stage.near(active(entry).box),
  j: () => source && series.scroll(1),
  k: () => source && series.scroll(-1),
  x: () => source && say(series.turn() ?? ""),
  w: () => series.canWindow() && dragTo(dragging() === "window" ? "pan" : "window"),
  r: () => series.setWindow(null),
  c: () => correctable() && take("box", focusHandle),
  d: () => correctable() && places(active(entry)).length > 0 && take("points", focusPoint),
  n: startDrawing,
  u: undo,
  a: accept,
  ",": () => entries.indexOf(entry) > 0 && goBack(entries[entries.indexOf(entry) - 1]),
  ".": () => entries.indexOf(entry) < entries.length - 1 && goBack(entries[entries.indexOf(entry) + 1]),
  "?": () => $("help").showModal(),
};

listenToKeys({
  keys: KEYS,
  ask: askNow,
  stop,
  // Escape leaves one thing at a time.
  escape: () => {
    if (dragging() !== "pan") dragTo("pan");
    else if (asking) stop();
    else if (document.activeElement !== document.body) document.activeElement.blur();
  },
  middle: () => dragging() === "draw" && drawInTheMiddle(),
  complain,
  kind: offerRegion,
  goThere: () => series.goTo(entry.view),
  label: (text) => {
    entry.label = text;
  },
});
listenToMasks({
  held,
  followed: (of) => (of === entry ? showDrawn() : rest(of)),
  failed: alertOf,
});
listenToHandles(boxChanged);
listenToPoints(pointChanged);
listenToGestures({ canWindow: series.canWindow, window: series.dragWindow, draw, scroll: series.scroll });
series.listen({ shown: drawEntry, failed: alertOf, renew: () => renew() });

// What the server holds for this page goes with it.
window.addEventListener("pagehide", () => {
  for (const { found } of new Set([source, ...entries.map((one) => one.source)].filter(Boolean))) {
    ask(`v1/images/${encodeURIComponent(found.image)}`, undefined, { method: "DELETE", keepalive: true }).catch(() => {});
  }
});

listenToToken(start);
start().catch((error) => alertOf(error, () => location.reload()));
