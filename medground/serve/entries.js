// What was asked in this session, as the page keeps it: each answer with its regions, and their corrections.

import { readMask } from "./rle.js";

const inside = ([x, y], [x1, y1, x2, y2]) => x >= x1 && x <= x2 && y >= y1 && y <= y2;

export function newEntry({ kind, question, choices, source, view, where, size }) {
  return {
    kind, question, choices, source, view, where, size,
    name: source.name,
    state: "asking",
    waiting: "",
    reasoning: "",
    answer: "",
    chosen: [],
    mentions: [],
    regions: [],
    chosenRegion: 0,
    notes: [],
    claims: [],
    spacing: null,
    accepted: false,
    label: "",
    thumbnail: null,
  };
}

// `pointed`: whether a person has moved a point; `lost` is a point that isn't on what is shown of the target any more.
export function region(ref, box, points = []) {
  return {
    ref, box,
    points: points.map((at) => ({ at, lost: false })),
    rle: null,
    mask: null,
    bounds: null,
    area: 0,
    corrected: false,
    pointed: false,
    drawn: false,
    original: null,
  };
}

const there = (of) => of.points.filter(({ lost }) => !lost);
export const places = (of) => there(of).map(({ at }) => at);

export function setMask(of, rle) {
  const { canvas, area, bounds } = rle ? readMask(rle) : { canvas: null, area: 0, bounds: null };
  Object.assign(of, { rle, mask: canvas, area, bounds });
}

// Masks of answers that aren't shown are kept as run lengths alone: drawn, each is as large as its picture.
export function rest(entry) {
  for (const of of entry.regions) of.mask = null;
}

export function wake(entry) {
  for (const of of entry.regions) if (of.rle && !of.mask) setMask(of, of.rle);
}

// What is known of a location before the whole answer is there.
export function located(entry, { bbox, points }) {
  entry.regions = bbox ? [region("", bbox, points ?? [])] : [];
}

export function finished(entry, result) {
  entry.reasoning = result.reasoning || entry.reasoning;
  entry.notes = result.notes ?? [];
  entry.reasoner = result.reasoner;
  entry.segmenter = result.segmenter;
  entry.spacing = result.source?.spacing_mm ?? null;
  if (entry.kind === "ground") {
    located(entry, result);
    if (entry.regions.length) setMask(entry.regions[0], result.mask);
    entry.claims = result.claims ?? [];
    entry.answer = result.answer ?? "";
    entry.state = result.absent ? "absent" : entry.regions.length ? "found" : "nowhere";
    return;
  }
  entry.answer = result.answer;
  entry.chosen = result.chosen ?? [];
  entry.mentions = result.mentions ?? [];
  entry.regions = (result.regions ?? []).map(({ ref, box, mask }) => {
    const one = region(ref, box);
    setMask(one, mask);
    return one;
  });
  entry.state = "answered";
}

// What the reasoning claims, as long as the mask that it was held against is the one that belongs to what is shown.
export function claims({ claims: all, regions: [of] }) {
  const { box, rle } = of?.original ?? of ?? {};
  return box === of?.box && rle === of?.rle ? all : [];
}

// A note that tells of that mask goes, and comes back, with the claim that it is about.
export function notes(entry) {
  if (claims(entry) === entry.claims) return entry.notes;
  const told = entry.claims.filter(({ agrees }) => agrees === false).map(({ text }) => `the reasoning says "${text}"; `);
  return entry.notes.filter((note) => !told.some((start) => note.startsWith(start)));
}

function touch(entry, of) {
  of.original ??= { box: of.box, points: of.points, rle: of.rle };
  of.corrected = true;
  entry.accepted = false;
}

// The region's box is another one now; its mask follows when the server has answered.
export function correct(entry, of, box) {
  touch(entry, of);
  of.box = box;
  of.points = of.points.map(({ at }) => ({ at, lost: !inside(at, box) }));
}

// One of the points that are there is elsewhere now. From then on they are a person's word, and no mask loses them.
export function movePoint(entry, of, number, to) {
  touch(entry, of);
  const old = there(of)[number];
  of.points = of.points.map((one) => (one === old ? { at: to, lost: false } : one));
  of.pointed = true;
}

// The mask of a corrected box is there; the reasoner's points stay where they lie on it.
export function followed(of, rle) {
  setMask(of, rle);
  if (of.pointed) return;
  const pixel = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const on = ([x, y]) => {
    pixel.clearRect(0, 0, 1, 1);
    pixel.drawImage(of.mask, -Math.floor(x), -Math.floor(y));
    return pixel.getImageData(0, 0, 1, 1).data[3] > 0;
  };
  of.points = of.points.map(({ at }) => ({ at, lost: !inside(at, of.box) || !on(at) }));
}

export function revert(entry) {
  entry.regions = entry.regions.filter((one) => !one.drawn);
  for (const of of entry.regions) {
    if (!of.original) continue;
    const { box, points, rle } = of.original;
    Object.assign(of, { box, points, original: null, corrected: false, pointed: false });
    setMask(of, rle);
  }
  entry.chosenRegion = 0;
  entry.accepted = false;
}

// A box that a person drew: in the place of the one that was found, or beside those of an answer in words.
export function drawn(entry, box) {
  if (entry.kind === "ground" && entry.regions.length) {
    correct(entry, entry.regions[0], box);
    return entry.regions[0];
  }
  const made = { ...region(entry.kind === "ask" ? "drawn" : "", box), corrected: true, drawn: true };
  entry.regions.push(made);
  entry.chosenRegion = entry.regions.length - 1;
  entry.accepted = false;
  return made;
}
