// COCO's compressed run lengths, as the server sends masks: base 32, a character a digit, signed steps from two runs
// back; runs alternate between background and target, down the columns.

function runsOf(counts) {
  const runs = [];
  let value = 0;
  let shift = 0;
  for (const character of counts) {
    const digit = character.charCodeAt(0) - 48;
    value |= (digit & 31) << shift;
    shift += 5;
    if (digit & 32) continue;
    if (digit & 16) value |= -1 << shift;
    runs.push(value + (runs.length > 2 ? runs.at(-2) : 0));
    value = 0;
    shift = 0;
  }
  return runs;
}

// Return the mask as a canvas whose opaque pixels are the target, how many they are, and where they lie: `bounds`
// [x1, y1, x2, y2].
export function readMask({ size: [height, width], counts }) {
  const pixels = new ImageData(width, height);
  const words = new Uint32Array(pixels.data.buffer);
  const bounds = [width, height, 0, 0];
  let at = 0;
  let area = 0;
  let target = false;
  for (const run of runsOf(counts)) {
    if (target && run) {
      area += run;
      for (let place = at; place < at + run; place += 1) {
        const [x, y] = [Math.floor(place / height), place % height];
        words[y * width + x] = 0xffffffff;
        if (y < bounds[1]) bounds[1] = y;
        if (y >= bounds[3]) bounds[3] = y + 1;
      }
      bounds[0] = Math.min(bounds[0], Math.floor(at / height));
      bounds[2] = Math.floor((at + run - 1) / height) + 1;
    }
    at += run;
    target = !target;
  }
  const canvas = new OffscreenCanvas(width, height);
  canvas.getContext("2d").putImageData(pixels, 0, 0);
  return { canvas, area, bounds };
}
