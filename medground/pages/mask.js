// Masks over a picture: an outline shows where the mask ends without hiding what it covers; the fill is faint.

// Draw `mask` (whatever drawImage takes; what isn't transparent is the target) into `place` [x, y, width, height] of
// a context: its outline `reach` canvas pixels wide, and what it covers with the given opacity.
export function drawMask(context, mask, place, { colour, reach, fill }) {
  const { width, height } = context.canvas;
  const [x, y, across, down] = place;
  const tinted = new OffscreenCanvas(width, height);
  const tint = tinted.getContext("2d");
  tint.imageSmoothingEnabled = false;
  tint.drawImage(mask, x, y, across, down);
  tint.globalCompositeOperation = "source-in";
  tint.fillStyle = colour;
  tint.fillRect(0, 0, width, height);
  const outlined = new OffscreenCanvas(width, height);
  const outline = outlined.getContext("2d");
  for (let turn = 0; turn < 16; turn += 1) {
    const angle = (turn * Math.PI) / 8;
    outline.drawImage(tinted, Math.round(reach * Math.cos(angle)), Math.round(reach * Math.sin(angle)));
  }
  outline.globalCompositeOperation = "destination-out";
  outline.drawImage(tinted, 0, 0);
  context.drawImage(outlined, 0, 0);
  const opacity = context.globalAlpha;
  context.globalAlpha = opacity * fill;
  context.drawImage(tinted, 0, 0);
  context.globalAlpha = opacity;
}
