"""What the tests of pages in a real browser share; the browser itself is conftest's."""

from __future__ import annotations

from typing import Any

import numpy as np


def contrast(page: Any, part: str) -> float:
    """WCAG 2's contrast ratio of a text and the nearest ground behind it."""
    colours = page.locator(part).first.evaluate(
        """start => {
          const canvas = new OffscreenCanvas(1, 1).getContext('2d', { willReadFrequently: true });
          const rgb = (colour) => {
            canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
            return Array.from(canvas.getImageData(0, 0, 1, 1).data);
          };
          let ground = [0, 0, 0, 0];
          for (let at = start; at && ground[3] === 0; at = at.parentElement) {
            ground = rgb(getComputedStyle(at).backgroundColor);
          }
          return [rgb(getComputedStyle(start).color), ground];
        }"""
    )

    def luminance(colour: list[int]) -> float:
        linear = [
            part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in np.array(colour[:3]) / 255
        ]
        return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))

    dark, light = sorted(map(luminance, colours))
    return (light + 0.05) / (dark + 0.05)
