// Review of question records: one at a time, decided by a key.

import { $, element } from "./dom.js";
import { forget, isZoomed, layersOf, showPicture, toggle, zoom } from "./picture.js";
import { get, Refused } from "./requests.js";
import { listClaims, listFacts, marked } from "./text.js";

const FILTERS = ["split", "modality", "category", "style", "absent"];
const STATUS = {
  undecided: "undecided",
  accept: "accepted",
  edit: "accepted with edits",
  reject: "rejected",
  stale: "decided about an earlier version: look again",
};
const DECIDED = ["accept", "edit", "reject"];

let build = { reasons: {}, total: 0 };
let decided = 0;
let queue = []; // numbers of the records that the filters let through, when they were set
let at = 0;
let view = null;
let loading = 0; // counts loads, so that a late answer to an earlier one is dropped
let filtering = 0; // the same for filters
let busy = false;
let discard = false; // Esc was pressed once in an edit with changes
let checking = 0;
const visit = []; // records decided about since the page was opened, the latest last

function alertOf(error) {
  if (!(error instanceof Refused)) throw error;
  if (error.status === 401) askForToken();
  else complain(error.status ? error.message : `${error.message} What you decided before is kept.`);
}

function complain(text) {
  $("alert").textContent = text;
  $("alert").hidden = !text;
}

function say(text) {
  $("said").textContent = text;
}

// ------------------------------------------------------------------ records

async function start() {
  build = await get("api/build");
  decided = build.decided;
  document.title = `Review ${build.name} · medground`;
  $("build").textContent = build.name;
  $("notice").textContent = build.notice;
  $("reviewer").value = localStorage.getItem("reviewer") ?? build.reviewer;
  for (const name of FILTERS) {
    const select = $("filters").elements[name];
    const options = (build.choices[name] || []).map((value) => new Option(value || "(none)", `=${value}`));
    select.replaceChildren(new Option("all", ""), ...options);
  }
  $("reasons").replaceChildren(...Object.entries(build.reasons).map(([reason, words], number) => {
    const button = element("button", `${number + 1}  ${words}`);
    button.type = "button";
    button.addEventListener("click", () => decide("reject", { reason }));
    const item = element("li");
    item.append(button);
    return item;
  }));
  const wanted = /^#record-(\d+)$/.exec(location.hash);
  await filter(wanted ? Number(wanted[1]) : undefined);
}

async function filter(wanted = queue[at]) {
  const number = ++filtering;
  const asked = new URLSearchParams();
  const fields = $("filters").elements;
  for (const name of FILTERS) if (fields[name].value) asked.set(name, fields[name].value.slice(1));
  if (fields.undecided.checked) asked.set("undecided", "true");
  const found = await get(`api/records?${asked}`);
  if (number !== filtering) return;
  queue = found.records;
  progress();
  if (!queue.length) {
    empty(found.matching ? "All of these are decided." : "No record is like that.");
    return;
  }
  await go(Math.max(queue.indexOf(wanted), 0));
  if (queue[at] !== wanted) say(`${queue.length} records. ${$("said").textContent}`);
}

function empty(text) {
  view = null;
  loading += 1;
  stopEditing();
  $("main").inert = true;
  $("layers").hidden = true;
  for (const id of ["question", "reasoning", "position", "status", "category"]) $(id).textContent = "";
  for (const id of ["claims", "facts"]) $(id).replaceChildren();
  $("status").className = "badge";
  $("absent").hidden = true;
  $("question").textContent = text;
  say(text);
  buttons();
}

async function go(position) {
  at = position;
  const number = ++loading;
  const index = queue[at];
  view = null; // nothing can be decided until it is shown
  stopEditing();
  $("layers").classList.add("loading");
  const [shown, layers] = await Promise.allSettled([get(`api/records/${index}`), layersOf(index)]);
  if (number !== loading) return;
  if (shown.status === "rejected") return alertOf(shown.reason);
  complain("");
  view = shown.value;
  history.replaceState(null, "", `#record-${index}`);
  $("main").inert = false;
  showText();
  if (layers.status === "fulfilled") {
    await showPicture(view.record, layers.value, () => number === loading);
  } else {
    forget(index);
    $("layers").hidden = true;
    alertOf(layers.reason);
  }
  const next = queue[at + 1];
  if (number === loading && next !== undefined) layersOf(next).catch(() => forget(next));
}

function step(by) {
  if (!queue.length || busy) return;
  const position = at + by;
  if (position < 0 || position >= queue.length) {
    say(by > 0 ? "This is the last record." : "This is the first record.");
    return;
  }
  go(position).catch(alertOf);
}

function progress() {
  $("progress").max = Math.max(build.total, 1);
  $("progress").value = decided;
  $("progress-text").textContent = `${decided.toLocaleString("en")} of ${build.total.toLocaleString("en")} decided`;
}

function buttons() {
  // Not "disabled": that would take the focus away from whoever is on the button.
  const off = (id, is) => $(id).setAttribute("aria-disabled", is);
  for (const id of ["accept", "edit-button", "reject-button"]) off(id, view === null);
  off("previous", at === 0);
  off("next", at >= queue.length - 1);
  off("undo", !visit.length && !(view && view.decision));
}

function status() {
  $("status").textContent = STATUS[view.status] + (view.status === "reject" ? `: ${build.reasons[view.decision.reason]}` : "");
  $("status").className = `badge ${view.status}`;
}

function showText() {
  const { record } = view;
  $("position").textContent = `Record ${(at + 1).toLocaleString("en")} of ${queue.length.toLocaleString("en")} · ${view.id}`;
  status();
  $("category").textContent = record.category || "";
  $("absent").hidden = !record.absent;
  $("question").textContent = view.question;
  marked($("reasoning"), view.pieces);
  listClaims(view.claims);
  listFacts(view);
  buttons();
  const drawn = record.absent ? "the target is absent" : `its target is ${record.category}`;
  $("image").alt = `Picture of ${view.id}; ${drawn}`;
  say(`Record ${at + 1} of ${queue.length}, ${$("status").textContent}. ${view.question}`);
}

// ------------------------------------------------------------------ decisions

async function decide(decision, more = {}) {
  if (busy || view === null) return false;
  busy = true;
  const before = view;
  try {
    const said = { decision, digest: before.digest, reviewer: $("reviewer").value.trim(), ...more };
    const after = await get(`api/records/${before.index}/decision`, said);
    count(before, after);
    visit.push(before.index);
    $("reject").close();
    stopEditing();
    complain("");
    if (view === before) view = after;
    busy = false;
    if (at + 1 < queue.length) {
      await go(at + 1);
      say(`${STATUS[after.status]}. ${$("said").textContent}`);
    } else {
      showText();
      say(`${STATUS[after.status]}. That was the last of these records.`);
    }
    return true;
  } catch (error) {
    if (decision === "edit" && error instanceof Refused && error.status === 422) checked({ refused: error.message });
    else {
      $("reject").close();
      alertOf(error);
    }
    return false;
  } finally {
    busy = false;
  }
}

function count(before, after) {
  decided += DECIDED.includes(after.status) - DECIDED.includes(before.status);
  progress();
}

async function undo() {
  if (busy) return;
  const last = visit.at(-1) ?? (view && view.decision ? view.index : undefined);
  if (last === undefined) {
    say("Nothing to undo.");
    return;
  }
  busy = true;
  try {
    const before = await get(`api/records/${last}`);
    const said = { decision: "undo", digest: before.digest, reviewer: $("reviewer").value.trim() };
    const after = await get(`api/records/${last}/decision`, said);
    visit.pop();
    count(before, after);
    if (!queue.includes(last)) queue.splice(at, 0, last);
    busy = false;
    await go(queue.indexOf(last));
    say(`Taken back: ${$("said").textContent}`);
  } catch (error) {
    if (error.status === 409) visit.pop(); // taken back elsewhere
    alertOf(error);
  } finally {
    busy = false;
    buttons();
  }
}

// ------------------------------------------------------------------ editing

const editing = () => !$("edit").hidden;
const texts = () => ({ question: $("edit-question").value, reasoning: $("edit-reasoning").value });

function edit() {
  if (view === null || busy) return;
  $("edit-question").value = view.question;
  $("edit-reasoning").value = view.reasoning;
  $("edit").hidden = false;
  $("shown").hidden = true;
  discard = false;
  $("edit-check").textContent = "";
  marked($("edit-marks"), view.pieces);
  $("edit-question").focus();
}

function stopEditing() {
  checking += 1;
  if (!editing()) return;
  $("edit").hidden = true;
  $("shown").hidden = false;
  if ($("edit").contains(document.activeElement) || document.activeElement === document.body) $("edit-button").focus();
}

function cancel() {
  const { question, reasoning } = texts();
  if (!discard && (question !== view.question || reasoning !== view.reasoning)) {
    discard = true;
    checked({ refused: "Press Esc or Cancel again to throw your changes away." });
    return;
  }
  stopEditing();
}

function checked({ refused, pieces }) {
  $("edit-check").textContent = refused ? `✗ ${refused}` : "✓ This can be saved.";
  $("edit-check").className = refused ? "bad" : "good";
  if (pieces) marked($("edit-marks"), pieces);
}

function checkSoon() {
  discard = false;
  const number = ++checking;
  setTimeout(async () => {
    if (number !== checking || !editing()) return;
    try {
      const said = await get(`api/records/${view.index}/check`, texts());
      if (number === checking && editing()) checked(said);
    } catch (error) {
      alertOf(error);
    }
  }, 350);
}

// ------------------------------------------------------------------ token

async function open(token) {
  await get("api/session", { token });
  $("token").close();
  await start();
}

function askForToken() {
  if (!$("token").open) $("token").showModal();
  $("token-input").focus();
}

$("token").addEventListener("cancel", (event) => event.preventDefault());
$("token-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  try {
    await open($("token-input").value);
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    $("token-alert").textContent = error.message;
  }
});

// ------------------------------------------------------------------ keys and buttons

const reject = () => view !== null && !busy && $("reject").showModal();
const KEYS = {
  a: () => decide("accept"),
  r: reject,
  e: edit,
  u: undo,
  j: () => step(1),
  ArrowRight: () => step(1),
  k: () => step(-1),
  ArrowLeft: () => step(-1),
  m: () => say(`mask ${toggle("mask")}`),
  b: () => say(`box ${toggle("box")}`),
  p: () => say(`points ${toggle("points")}`),
  z: () => zoom(!isZoomed()),
  "?": () => $("help").showModal(),
};

document.addEventListener("keydown", (event) => {
  if (editing() && event.key === "Escape") {
    event.preventDefault();
    cancel();
    return;
  }
  if (editing() && event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    decide("edit", texts());
    return;
  }
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || !$("keys").checked) return;
  if ($("reject").open) {
    const reason = /^[1-9]$/.test(event.key) && Object.keys(build.reasons)[Number(event.key) - 1];
    if (reason) decide("reject", { reason });
    return;
  }
  if (document.querySelector("dialog[open]") || editing()) return;
  const { target } = event;
  if (target.matches("select") && event.key === "Escape") target.blur();
  if (target.matches("input:not([type=checkbox]), select, textarea")) return;
  const act = KEYS[event.key];
  if (act) {
    event.preventDefault();
    act();
  }
});

const click = (id, act) => $(id).addEventListener("click", act);
click("accept", KEYS.a);
click("reject-button", reject);
click("edit-button", edit);
click("undo", undo);
click("next", KEYS.j);
click("previous", KEYS.k);
click("show-mask", KEYS.m);
click("show-box", KEYS.b);
click("show-points", KEYS.p);
click("zoom", KEYS.z);
click("help-button", KEYS["?"]);
click("edit-cancel", cancel);
$("edit").addEventListener("submit", (event) => {
  event.preventDefault();
  decide("edit", texts());
});
for (const id of ["edit-question", "edit-reasoning"]) $(id).addEventListener("input", checkSoon);
$("filters").addEventListener("submit", (event) => event.preventDefault());
$("filters").addEventListener("change", () => filter().catch(alertOf));
$("reviewer").addEventListener("change", () => localStorage.setItem("reviewer", $("reviewer").value.trim()));
$("keys").checked = localStorage.getItem("keys") !== "off";
$("keys").addEventListener("change", () => localStorage.setItem("keys", $("keys").checked ? "on" : "off"));
window.addEventListener("resize", () => zoom());

const given = /^#token=(.+)$/.exec(location.hash);
if (given) history.replaceState(null, "", location.pathname); // the token stays out of the address bar and of bookmarks
(given ? open(decodeURIComponent(given[1])) : start()).catch(alertOf);
