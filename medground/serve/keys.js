// Keys and buttons of the page.

import { $ } from "./dom.js";
import { fit, setOpacity, zoomBy } from "./stage.js";

const typed = (target) => target.matches("textarea, select, input:not([type=checkbox], [type=radio], [type=range])");

export function listen({ keys, ask, stop, escape, middle, complain, kind, goThere, label }) {
  document.addEventListener("keydown", (event) => {
    if (document.querySelector("dialog[open]") || event.isComposing) return;
    if (event.key === "Escape") {
      event.preventDefault();
      escape();
      return;
    }
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const { target } = event;
    if (target === $("question") && event.key === "Enter" && !event.shiftKey) {
      event.preventDefault();
      ask();
      return;
    }
    if (event.key === "Enter" && !target.matches("button, a, summary, input, textarea, select")) middle();
    if (typed(target) || !$("keys").checked) return;
    if (event.repeat && !["j", "k", "+", "=", "-"].includes(event.key)) return;
    const act = Object.hasOwn(keys, event.key) && keys[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  });

  const click = (id, act) => $(id).addEventListener("click", act);
  const BUTTONS = {
    "open-button": "o", "help-button": "?", "show-mask": "m", "show-box": "b", "show-points": "p", near: "z",
    "window-tool": "w", "correct-button": "c", "draw-button": "n", revert: "u", accept: "a",
  };
  for (const [id, key] of Object.entries(BUTTONS)) click(id, keys[key]);
  click("fit", fit);
  click("zoom-in", () => zoomBy(1.25));
  click("zoom-out", () => zoomBy(0.8));
  click("stop", stop);
  click("go-there", goThere);
  click("alert-close", () => complain(""));
  $("opacity").addEventListener("input", () => setOpacity($("opacity").valueAsNumber / 100));
  $("label").addEventListener("input", () => label($("label").value));
  $("save").addEventListener("submit", (event) => event.preventDefault());
  $("ask").addEventListener("submit", (event) => {
    event.preventDefault();
    if ($("go").getAttribute("aria-disabled") !== "true") ask();
  });
  const choose = () => {
    $("choices-part").hidden = $("ask").elements.kind.value !== "ask";
    kind();
  };
  $("ask").addEventListener("change", choose);
  choose();

  $("keys").checked = localStorage.getItem("keys") !== "off";
  $("keys").addEventListener("change", () => {
    localStorage.setItem("keys", $("keys").checked ? "on" : "off");
    tell(keys);
  });
  tell(keys);
}

// Buttons show their keys; a screen reader is told of them beside the names, and only while they act.
function tell(keys) {
  for (const shown of document.querySelectorAll("button > kbd")) {
    shown.setAttribute("aria-hidden", true);
    const key = shown.textContent;
    if (!Object.hasOwn(keys, key)) continue;
    if ($("keys").checked) shown.parentElement.setAttribute("aria-keyshortcuts", key);
    else shown.parentElement.removeAttribute("aria-keyshortcuts");
  }
}
