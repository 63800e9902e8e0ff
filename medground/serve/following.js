// Masks follow what a person corrects.

import { followed, places } from "./entries.js";
import { patiently } from "./events.js";
import { get } from "./requests.js";

let under = null; // the promise that ends when the masks have followed
let next = null; // { of, region } whose mask is out of date
let told = null; // callbacks

export const settled = () => under;

// One request at a time; while it is under way only the latest place is remembered.
export function follow(of, region) {
  next = { of, region };
  under ??= (async () => {
    try {
      while (next) {
        const { of: mine, region: one } = next;
        next = null;
        const mask = await drawn(mine, one);
        if (!one.corrected) continue; // undone in the meantime
        followed(one, mask);
        told.followed(mine);
      }
    } catch (error) {
      next = null;
      told.failed(error, () => follow(of, region));
    } finally {
      under = null;
    }
  })();
}

async function drawn({ source, view }, region) {
  const { box, pointed } = region;
  // A person's word alone: points that nobody moved are the reasoner's.
  const points = pointed ? places(region) : [];
  const ask = () => get("v1/segment", { ...view, image: source.found.image, box, points });
  const { mask } = await told.held(() => patiently(ask, { waiting: () => {} }), source);
  return mask;
}

// `held` asks again where the server has forgotten the image, `followed` is told whose mask is new, and `failed` what
// went wrong.
export function listen(callbacks) {
  told = callbacks;
}
