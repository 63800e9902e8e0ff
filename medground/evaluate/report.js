"use strict";
// Filters of the cases, what is drawn over pictures, and what is folded unfolded on paper. The page says all without it.
{
  const AT_ONCE = 24;
  const tools = document.getElementById("tools");
  const more = document.getElementById("more");
  const cases = Array.from(document.querySelectorAll(".case"));
  let most = AT_ONCE;

  const has = (one, { name, value }) =>
    name === "kind" ? one.dataset.kind.split(" | ").includes(value) : one.dataset[name] === value;

  function show() {
    const wanted = Array.from(tools.querySelectorAll("select")).filter((each) => each.value);
    const fitting = cases.filter((one) => wanted.every((each) => has(one, each)));
    const shown = new Set(fitting.slice(0, most));
    for (const one of cases) one.hidden = !shown.has(one);
    more.hidden = shown.size === fitting.length;
    document.getElementById("shown").textContent =
      fitting.length ? `${shown.size} of ${fitting.length} shown` : "No case is like that.";
  }

  if (tools) {
    tools.hidden = false;
    tools.addEventListener("submit", (event) => event.preventDefault());
    tools.addEventListener("change", (event) => {
      const { layer } = event.target.dataset;
      if (layer) {
        document.getElementById("gallery").classList.toggle(`without-${layer}`, !event.target.checked);
        return;
      }
      most = AT_ONCE;
      show();
    });
    more.addEventListener("click", () => {
      const next = cases.filter((one) => !one.hidden).length;
      most += AT_ONCE;
      show();
      // Whoever goes on by key goes on at the first new case, not at the end.
      const fresh = cases.filter((one) => !one.hidden)[next];
      fresh.tabIndex = -1;
      fresh.focus({ preventScroll: true });
    });
    // Browsers keep what was ticked when a page is loaded again.
    for (const box of tools.querySelectorAll("[data-layer]")) box.dispatchEvent(new Event("change", { bubbles: true }));
    show();
  }

  let opened = [];
  addEventListener("beforeprint", () => {
    opened = Array.from(document.querySelectorAll("details:not([open])"));
    for (const each of opened) each.open = true;
  });
  addEventListener("afterprint", () => {
    for (const each of opened) each.open = false;
  });
}
