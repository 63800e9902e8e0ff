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
  let [x, y] = [0, 0];
  let area = 0;
  let target = false;
  for (const run of runsOf(counts)) {
    if (target && run) {
      area += run;
      bounds[0] = Math.min(bounds[0], x);
      for (let left = run; left > 0; left -= 1) {
        words[y * width + x] = 0xffffffff;
        if (y < bounds[1]) bounds[1] = y;
        if (y >= bounds[3]) bounds[3] = y + 1;
        bounds[2] = x + 1;
        y += 1;
        if (y === height) [x, y] = [x + 1, 0];
      }
    } else {
      x += Math.floor((y + run) / height);
      y = (y + run) % height;
    }
    target = !target;
  }
  const canvas = new OffscreenCanvas(width, height);
  canvas.getContext("2d").putImageData(pixels, 0, 0);
  return { canvas, area, bounds };
}
