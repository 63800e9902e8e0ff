// Questions to the server, whose answers arrive in pieces (server-sent events over a POST), and patience when it is busy.

import { ask, Refused } from "./requests.js";

const TRIES = 5;

const lost = () => new Refused(0, "The connection was lost before the answer was complete.");

async function* pieces(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read().catch((error) => {
        throw error.name === "AbortError" ? error : lost();
      });
      if (done) return;
      rest += value;
      const blocks = rest.split(/\r\n\r\n|\n\n|\r\r/);
      rest = blocks.pop();
      for (const block of blocks) {
        let name = "message";
        const data = [];
        for (const line of block.split(/\r\n|\n|\r/)) {
          const [, field, said] = /^([^:]*):? ?(.*)$/.exec(line);
          if (field === "event") name = said;
          if (field === "data") data.push(said);
        }
        if (data.length) yield { name, data: JSON.parse(data.join("\n")) };
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

export const sleep = (seconds, signal) => new Promise((resolve, reject) => {
  const stop = () => {
    clearTimeout(timer);
    reject(new DOMException("stopped", "AbortError"));
  };
  const timer = setTimeout(() => {
    signal?.removeEventListener("abort", stop);
    resolve();
  }, 1000 * seconds);
  signal?.addEventListener("abort", stop, { once: true });
});

// Do what the server may be too busy for; `waiting` is told the seconds that are left.
export async function patiently(act, { signal, waiting }) {
  for (let again = 1; ; again += 1) {
    try {
      return await act();
    } catch (error) {
      if (!(error instanceof Refused) || error.status !== 429 || again === TRIES) throw error;
      for (let left = Math.min(60, Math.max(1, Math.ceil(error.after))); left > 0; left -= 1) {
        waiting(left);
        await sleep(1, signal);
      }
    }
  }
}

// Ask, tell each event to `on` by its name, and return the whole answer.
export async function question(path, body, { signal, on, waiting }) {
  const answer = await patiently(() => ask(path, body, { signal, accept: "text/event-stream" }), { signal, waiting });
  for await (const { name, data } of pieces(answer)) {
    if (name === "done") return data;
    if (name === "error") throw new Refused(data.status ?? 422, data.detail);
    on[name]?.(data);
  }
  throw lost();
}
