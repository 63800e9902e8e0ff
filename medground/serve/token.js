// The token that a server asks for which isn't this machine's alone.

import { $ } from "./dom.js";
import { Refused, useToken } from "./requests.js";

export function askForToken() {
  if (!$("token").open) $("token").showModal();
  $("token-input").focus();
}

// Take the token that the address or this tab holds, and let `start` try each one that is typed.
export function listen(start) {
  $("token").addEventListener("cancel", (event) => event.preventDefault());
  $("token-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const typed = $("token-input").value.trim();
    useToken(typed);
    $("token-alert").textContent = "";
    try {
      await start();
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      $("token-alert").textContent = error.status === 401 ? "That isn't the token." : error.message;
      return;
    }
    sessionStorage.setItem("token", typed);
    $("token-input").value = "";
    $("token").close();
  });

  const given = /^#token=(.+)$/.exec(location.hash);
  if (given) history.replaceState(null, "", location.pathname); // it stays out of the address bar and of bookmarks
  const token = given ? decodeURIComponent(given[1]) : sessionStorage.getItem("token");
  if (!token) return;
  useToken(token);
  sessionStorage.setItem("token", token);
}
