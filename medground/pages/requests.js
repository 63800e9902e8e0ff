// Requests to the server that served this page.

export class Refused extends Error {
  constructor(status, detail, after = 0) {
    super(detail);
    this.status = status; // 0 when the server couldn't be reached
    this.after = after; // seconds after which the server may be asked again
  }
}

let token = "";

// Show this token with each request; a server that set a cookie needs none.
export function useToken(given) {
  token = given;
}

// Ask the server; a body of any kind but FormData is sent as JSON.
export async function ask(path, body, { method, accept, signal, keepalive } = {}) {
  const headers = {};
  if (token) headers.authorization = `Bearer ${token}`;
  if (accept) headers.accept = accept;
  const form = body instanceof FormData;
  if (body !== undefined && !form) headers["content-type"] = "application/json";
  let answer;
  try {
    answer = await fetch(path, {
      method: method ?? (body === undefined ? "GET" : "POST"),
      headers,
      body: body === undefined || form ? body : JSON.stringify(body),
      signal,
      keepalive,
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, "The server doesn't answer.");
  }
  if (answer.ok) return answer;
  const said = await answer.json().catch(() => ({}));
  const detail = typeof said.detail === "string" ? said.detail : `The server answered ${answer.status}.`;
  throw new Refused(answer.status, detail, Number(answer.headers.get("retry-after")) || 0);
}

export const get = async (path, body, options) => (await ask(path, body, options)).json();
