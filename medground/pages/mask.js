// Masks over a picture: an outline shows where the mask ends without hiding what it covers; the fill is faint.

const WAYS = [...Array(16).keys()].map((turn) => (turn * Math.PI) / 8);

// Draw `mask` (whatever drawImage takes; what isn't transparent is the target) into `place` [x, y, width, height] of
// a context: its outline `reach` canvas pixels wide, and what it covers with the opacity `fill`. `bounds` [x1, y1, x2,
// y2], in the mask's pixels, is where its target lies; only that part is worked on.
export function drawMask(context, mask, place, { colour, reach, fill, bounds }) {
  const [x, y, across, down] = place;
  const [x1, y1, x2, y2] = bounds ?? [0, 0, mask.width, mask.height];
  const [stretch, rise] = [across / mask.width, down / mask.height];
  const edge = Math.ceil(reach) + 1;
  const left = Math.max(0, Math.floor(x + x1 * stretch) - edge);
  const top = Math.max(0, Math.floor(y + y1 * rise) - edge);
  const width = Math.min(context.canvas.width, Math.ceil(x + x2 * stretch) + edge) - left;
  const height = Math.min(context.canvas.height, Math.ceil(y + y2 * rise) + edge) - top;
  if (width <= 0 || height <= 0) return;
  const tinted = new OffscreenCanvas(width, height);
  const tint = tinted.getContext("2d");
  tint.imageSmoothingEnabled = false;
  tint.drawImage(mask, x - left, y - top, across, down);
  tint.globalCompositeOperation = "source-in";
  tint.fillStyle = colour;
  tint.fillRect(0, 0, width, height);
  const outlined = new OffscreenCanvas(width, height);
  const outline = outlined.getContext("2d");
  const steps = WAYS.map((way) => [Math.round(reach * Math.cos(way)), Math.round(reach * Math.sin(way))]);
  for (const [right, low] of new Map(steps.map((step) => [String(step), step])).values()) {
    outline.drawImage(tinted, right, low);
  }
  outline.globalCompositeOperation = "destination-out";
  outline.drawImage(tinted, 0, 0);
  context.drawImage(outlined, left, top);
  context.globalAlpha = fill;
  context.drawImage(tinted, left, top);
  context.globalAlpha = 1;
}
