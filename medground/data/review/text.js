// What is said of a record. Texts of the data only ever become text nodes.

import { $, element } from "./dom.js";

const verdict = (holds) => (holds === null ? "not known" : holds ? "true" : "false");
const sign = (holds) => (holds === null ? "?" : holds ? "✓" : "✗");

export function marked(into, pieces) {
  into.replaceChildren(...pieces.map((piece) => {
    if (!piece.facet) return document.createTextNode(piece.text);
    const mark = element("mark", piece.text, String(piece.holds));
    mark.title = `${piece.facet}: ${piece.value} – ${verdict(piece.holds)}`;
    mark.append(element("span", ` (${verdict(piece.holds)})`, "unseen"));
    return mark;
  }));
}

export function listClaims(claims) {
  const items = claims.map((claim) => {
    const item = element("li", `${sign(claim.holds)} ${claim.facet}: ${claim.value}`, String(claim.holds));
    item.append(element("span", `, ${verdict(claim.holds)}`, "unseen"));
    return item;
  });
  $("claims").replaceChildren(...(items.length ? items : [element("li", "The reasoning claims nothing that can be checked.", "none")]));
}

export function listFacts(view) {
  const rows = [];
  const add = (name, value) => {
    if (value === null || value.length === 0) return;
    const text = typeof value === "object" ? JSON.stringify(value) : String(value);
    rows.push(element("dt", name.replaceAll("_", " ")), element("dd", text));
  };
  const { record, original, decision } = view;
  if (view.status === "edit") {
    add("asked before", original.question);
    add("reasoned before", original.reasoning);
  }
  if (decision) add("decided", [decision.decision, decision.reviewer && `by ${decision.reviewer}`, decision.time].filter(Boolean).join(", "));
  for (const [name, value] of Object.entries(record)) {
    if (name === "facts") for (const [facet, words] of Object.entries(value)) add(facet, words.join(", "));
    else if (name === "attributes" || name === "origin") for (const [key, inner] of Object.entries(value)) add(key, inner);
    else if (name === "share") add(name, record.absent ? null : `${(100 * value).toFixed(2)} % of the picture`);
    else if (!["category", "absent", "width", "height", "points", "parts"].includes(name)) add(name, value);
  }
  add("picture", `${record.width} × ${record.height}`);
  $("facts").replaceChildren(...rows);
}
