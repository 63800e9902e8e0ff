// Files of an accepted answer.

import { $, element } from "./dom.js";
import { ask } from "./requests.js";

const FORMATS = { png: "PNG", json: "JSON", coco: "COCO", "dicom-seg": "DICOM-SEG", "dicom-sr": "DICOM-SR" };

export function showFormats(kind, save) {
  const names = Object.keys(FORMATS).filter((name) => kind === "dicom" || !name.startsWith("dicom"));
  $("formats").replaceChildren(...names.map((name) => {
    const button = element("button", FORMATS[name]);
    button.type = "button";
    button.dataset.format = name;
    button.addEventListener("click", () => save(name));
    return button;
  }));
}

// Make a file on the server and let the browser keep it; return its name.
export async function download(format, body) {
  const answer = await ask(`v1/export/${format}`, body);
  const [, name] = /filename="?([^";]+)"?/.exec(answer.headers.get("content-disposition") ?? "") ?? [];
  const link = element("a");
  link.href = URL.createObjectURL(await answer.blob());
  link.download = name ?? `medground-${format}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  return link.download;
}
