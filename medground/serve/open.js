// Ways to open an image: a file that is chosen, dropped or pasted, or one of the examples.

import { $, element } from "./dom.js";
import { get } from "./requests.js";

// Send a file or an example to the server, which says what it is.
export function send(source) {
  if (source.example) return get(`v1/examples/${encodeURIComponent(source.example)}`, undefined, { method: "POST" });
  const form = new FormData();
  form.append("file", source.file, "upload"); // names of files may hold names of patients
  return get("v1/images", form);
}

export async function showExamples(open) {
  const examples = await get("v1/examples");
  $("examples").replaceChildren(...examples.map(({ id, title, question, credit, licence }) => {
    const button = element("button", undefined, "example");
    button.type = "button";
    button.append(element("strong", title), element("span", question), element("small", credit.includes(licence) ? credit : `${credit} · ${licence}`));
    button.addEventListener("click", () => open({ example: id, name: title, question, credit }));
    const item = element("li");
    item.append(button);
    return item;
  }));
  $("examples-part").hidden = !examples.length;
}

export function listen(open, complain) {
  const take = (files) => {
    if (!files.length) return;
    if (files.length > 1) complain("One image at a time: this is the first of them.");
    else complain("");
    open({ file: files[0], name: files[0].name });
  };
  const choose = () => $("file").click();
  $("choose").addEventListener("click", choose);
  $("file").addEventListener("change", () => {
    take([...$("file").files]);
    $("file").value = ""; // so that the same file can be chosen again
  });

  let over = 0; // how many elements deep the drag is
  const leave = () => {
    over = 0;
    $("dropping").hidden = true;
  };
  const files = (event) => event.dataTransfer?.types.includes("Files");
  document.addEventListener("dragenter", (event) => {
    if (!files(event)) return;
    over += 1;
    $("dropping").hidden = false;
  });
  document.addEventListener("dragleave", (event) => {
    if (!files(event)) return;
    over -= 1;
    if (over <= 0) leave();
  });
  document.addEventListener("dragover", (event) => files(event) && event.preventDefault());
  document.addEventListener("drop", (event) => {
    if (!files(event)) return;
    event.preventDefault();
    leave();
    const folder = [...event.dataTransfer.items].some((item) => item.webkitGetAsEntry?.()?.isDirectory);
    if (folder) complain("That is a folder; drop one image file.");
    else take([...event.dataTransfer.files]);
  });
  document.addEventListener("paste", (event) => take([...(event.clipboardData?.files ?? [])]));
  return choose;
}
