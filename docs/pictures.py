"""Draw the README's picture: python docs/pictures.py (needs the extra demo)."""

from __future__ import annotations

from pathlib import Path

from medground._io import write_bytes
from medground.demo import CASES
from medground.drawing import contact_sheet, draw, overlay, png
from medground.images import load_image
from medground.pipeline import MedGround


def main() -> None:
    """Write docs/images/demo.png: the first case's picture, and the answer beside it."""
    case = CASES[0]
    image = load_image(case.path(), **case.reading)
    result = MedGround().ground(image, case.question)
    sheet = contact_sheet([(draw(image), case.question), (overlay(image, result), result.reasoning)], columns=2)
    write_bytes(Path(__file__).parent / "images" / "demo.png", png(sheet))


if __name__ == "__main__":
    main()
