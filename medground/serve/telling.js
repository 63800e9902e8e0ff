// What the page tells: quietly to screen readers, and aloud what went wrong.

import { $ } from "./dom.js";
import { Refused } from "./requests.js";
import { askForToken } from "./token.js";

export function say(text) {
  $("said").textContent = text;
}

// What the server says begins small and ends without a full stop, as parts of a line in a terminal do.
export const sentence = (text) => text && text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");

export function complain(text, again) {
  $("alert-text").textContent = sentence(text);
  $("alert").hidden = !text;
  $("alert-again").hidden = !again;
  $("alert-again").onclick = again ? () => {
    complain("");
    again();
  } : null;
}

// Say what went wrong; a fault of this page goes to the console.
export function alertOf(error, again) {
  if (error.name === "AbortError") return;
  if (!(error instanceof Refused)) throw error;
  if (error.status === 401) askForToken();
  else if (error.status === 429) complain("The server is busy with other questions.", again);
  else complain(error.message, [0, 404, 500, 502, 503].includes(error.status) ? again : undefined);
}
