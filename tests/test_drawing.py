from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medground._io import write_bytes
from medground.coords import Space
from medground.drawing import (
    BOX,
    MASK,
    POINT,
    REGIONS,
    contact_sheet,
    draw,
    draw_regions,
    overlay,
    save_reply,
    save_result,
)
from medground.errors import ConfigError
from medground.images import MedicalImage
from medground.masks import decode_rle
from medground.pipeline import MedGround
from medground.types import Box, Grounding, LocatedRegion, Point, Reply, Result


def where(picture: Image.Image, colour: tuple[int, int, int]) -> tuple[int, int, int, int]:
    """Return the extent (x1, y1, x2, y2) of a colour, edges."""
    rows, columns = np.nonzero((np.asarray(picture) == colour).all(axis=2))
    return int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1


def grey(width: int, height: int, value: int = 100) -> MedicalImage:
    return MedicalImage.from_array(np.full((height, width), value, np.uint8))


@pytest.mark.parametrize(("width", "height", "factor"), [(640, 480, 1), (64, 64, 8), (100, 30, 6), (1500, 700, 1)])
def test_box_is_drawn_at_its_edges(width, height, factor):
    box = Box(width * 0.2, height * 0.2, width * 0.6, height * 0.8, Space.pixels(width, height))
    picture = draw(grey(width, height), boxes=[box])
    assert picture.size == (width * factor, height * factor)
    assert max(picture.size) >= 512
    assert where(picture, BOX) == pytest.approx([value * factor for value in box.xyxy], abs=0.51)
    x, y = round((box.x1 + box.x2) / 2 * factor), round((box.y1 + box.y2) / 2 * factor)
    assert picture.getpixel((x, y)) == (100, 100, 100)


def test_box_of_the_whole_picture_stays_visible():
    picture = draw(grey(600, 520), boxes=[Box(0, 0, 600, 520, Space.pixels(600, 520))])
    assert where(picture, BOX) == (0, 0, 600, 520)


def test_points_are_drawn_at_their_places_in_any_space():
    picture = draw(grey(600, 520), points=[Point(500, 250, Space.norm1000())])
    x1, y1, x2, y2 = where(picture, POINT)
    assert ((x1 + x2) / 2, (y1 + y2) / 2) == pytest.approx((300, 130), abs=0.6)


def test_mask_is_a_tint_with_a_contour_inside_and_a_rim_outside():
    mask = np.zeros((520, 600), bool)
    mask[100:200, 300:400] = True
    pixels = np.asarray(draw(grey(600, 520), mask=mask, tint=0.5))
    assert (pixels[150, 350] == np.round(100 * 0.5 + np.array(MASK) * 0.5)).all()
    assert (pixels[100, 300:400] == MASK).all()
    assert (pixels[99, 300:400] == 0).all()
    untouched = ~np.pad(mask, 0)
    untouched[98:202, 298:402] = False
    assert (pixels[untouched] == 100).all()


def test_mask_of_a_small_picture_is_enlarged_without_smoothing():
    mask = np.zeros((64, 64), bool)
    mask[10, 20] = True
    picture = draw(grey(64, 64), mask=mask)
    assert where(picture, MASK) == (160, 80, 168, 88)


def test_mask_that_touches_the_border_has_its_contour_there():
    pixels = np.asarray(draw(grey(600, 520), mask=np.ones((520, 600), bool)))
    for edge in (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]):
        assert (edge == MASK).all()


@pytest.mark.parametrize("value", [0, 128, 255])
def test_every_mark_stands_out_from_any_grey(value):
    space = Space.pixels(600, 520)
    mask = np.zeros((520, 600), bool)
    mask[100:200, 300:400] = True
    pixels = np.asarray(
        draw(grey(600, 520, value), boxes=[Box(50, 50, 250, 250, space)], points=[Point(450, 400, space)], mask=mask)
    ).astype(float)
    # Relative luminance contrast (WCAG) of at least 3 : 1 between each mark's colour and either the ground or its rim.
    luminance = pixels @ np.array([0.2126, 0.7152, 0.0722]) / 255
    for colour in (BOX, POINT, MASK):
        mark = (np.array(colour) @ np.array([0.2126, 0.7152, 0.0722])) / 255
        assert (pixels == colour).all(axis=2).any()
        contrasts = [(max(mark, other) + 0.05) / (min(mark, other) + 0.05) for other in (0.0, float(luminance[0, 0]))]
        assert max(contrasts) > 3


def test_colours_differ_in_common_colour_vision_deficiencies():
    # Machado, Oliveira, Fernandes 2009, full severity: protanopia, deuteranopia, tritanopia, on linear RGB.
    matrices = [
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
    ]
    for matrix in matrices:
        seen = [
            (np.array(matrix) @ (np.array(colour) / 255) ** 2.2).clip(0, 1) ** (1 / 2.2)
            for colour in (BOX, POINT, MASK)
        ]
        distances = [np.linalg.norm(a - b) for index, a in enumerate(seen) for b in seen[:index]]
        assert min(distances) > 0.2


def test_mask_of_another_size_is_refused():
    with pytest.raises(ValueError, match="isn't the picture's"):
        draw(grey(60, 40), mask=np.zeros((60, 40), bool))


def test_overlay_draws_the_whole_result(picture, reasoner, segmenter):
    result = MedGround(reasoner, segmenter).ground(picture, "Where?")
    drawn = overlay(picture, result)
    factor = drawn.width // picture.width
    assert where(drawn, BOX) == pytest.approx([value * factor for value in result.box.xyxy], abs=0.51)
    x1, _, x2, _ = where(drawn, POINT)
    assert x1 < result.points[0].x * factor < result.points[1].x * factor < x2
    assert np.abs(np.asarray(drawn).astype(int) - np.asarray(draw(picture)).astype(int)).max() > 50


def test_contact_sheet_shows_every_tile():
    colours = [(200, 0, 0), (0, 200, 0), (0, 0, 200), (200, 200, 0)]
    tiles = [(Image.new("RGB", (90, 30 + 60 * index), colour), f"tile {index}") for index, colour in enumerate(colours)]
    sheet = contact_sheet(tiles, columns=3, width=120)
    assert sheet.width == 3 * 120 + 4 * 4
    left, top, right, bottom = where(sheet, (200, 0, 0))
    assert (right - left, bottom - top) == (120, 40)
    assert where(sheet, (200, 200, 0))[1] > where(sheet, (0, 200, 0))[3]
    dark = contact_sheet(tiles[:1], width=120, background="black")
    assert (np.asarray(dark) > 250).all(axis=2).any()
    with pytest.raises(ValueError, match="at least one tile"):
        contact_sheet([])


def test_saved_files_say_the_same_as_the_result(tmp_path: Path, picture, reasoner, segmenter):
    result = MedGround(reasoner, segmenter).ground(picture, "Where?")
    saved = save_result(result, picture, tmp_path / "a" / "b")
    assert sorted(path.name for path in (tmp_path / "a" / "b").iterdir()) == [
        "picture.json", "picture.mask.png", "picture.overlay.png"
    ]  # fmt: skip
    mask = np.asarray(Image.open(saved.mask))
    assert mask.shape == (60, 80)
    assert set(np.unique(mask)) == {0, 255}
    assert ((mask > 0) == result.mask).all()
    told = json.loads(saved.json.read_text())
    assert (decode_rle(told["mask"]) == result.mask).all()
    assert (np.asarray(Image.open(saved.overlay)) == np.asarray(overlay(picture, result))).all()


def test_no_old_mask_stays_beside_a_result_without_one(tmp_path: Path, picture, reasoner, segmenter):
    save_result(MedGround(reasoner, segmenter).ground(picture, "Where?"), picture, tmp_path)
    saved = save_result(MedGround(reasoner, None).ground(picture, "Where?"), picture, tmp_path)
    assert saved.mask is None
    assert not (tmp_path / "picture.mask.png").exists()


@pytest.mark.parametrize(
    ("file_name", "stem"),
    [
        ("scan.png", "scan"),
        ("brain.nii.gz", "brain"),
        ("1.2.840.10008", "1.2.840.10008"),
        ("a b/../c.dcm", "a_b_.._c"),
        ("..png", "result"),
        ("Ünï.JPG", "Ünï"),
    ],
)
def test_files_are_named_after_the_image(tmp_path: Path, file_name, stem):
    image = MedicalImage.from_array(np.eye(8, dtype=np.uint8), file_name)
    space = image.space
    result = Result(Grounding("", (Box(1, 1, 3, 3, space),), (), space), None, "a model", "none")
    assert save_result(result, image, tmp_path).json == tmp_path / f"{stem}.json"


def test_a_write_that_fails_leaves_the_old_file_and_no_rest(tmp_path: Path):
    path = tmp_path / "file.txt"
    write_bytes(path, b"old")

    def broken():
        yield b"new"
        raise RuntimeError("midway")

    with pytest.raises(RuntimeError, match="midway"):
        write_bytes(path, broken())
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
    assert path.stat().st_mode & 0o444 == 0o444


def test_unwritable_places_are_told_in_a_sentence(tmp_path: Path, picture, reasoner):
    (tmp_path / "file").write_text("here already")
    result = MedGround(reasoner, None).ground(picture, "Where?")
    with pytest.raises(ConfigError, match="can't make the folder"):
        save_result(result, picture, tmp_path / "file")
    with pytest.raises(ConfigError, match="can't write"):
        write_bytes(tmp_path / "nowhere" / "file", b"")


# ---- regions of a reply ----


def located(ref: str, xyxy: tuple[int, int, int, int], mask: bool = True) -> LocatedRegion:
    x1, y1, x2, y2 = xyxy
    drawn = np.zeros((520, 600), bool)
    drawn[y1 + 20 : y2 - 20, x1 + 20 : x2 - 20] = True
    return LocatedRegion(ref, Box(*xyxy, Space.pixels(600, 520)), drawn if mask else None)


def test_regions_are_drawn_each_in_a_colour_with_its_number_and_name():
    regions = [located("left lung", (300, 100, 500, 400)), located("heart", (100, 200, 280, 420), mask=False)]
    picture = draw_regions(grey(600, 520), regions)
    pixels = np.asarray(picture)
    assert picture.width == 600
    shown = picture.crop((0, 0, 600, 520))
    assert where(shown, REGIONS[0]) == (300, 100, 500, 400)
    assert where(shown, REGIONS[1]) == (100, 200, 280, 420)
    tint = np.round(100 * 0.65 + np.array(REGIONS[0]) * 0.35)
    assert (pixels[250, 400] == tint).all()
    assert (pixels[300, 190] == 100).all()  # no mask there
    # Below the picture: a row for each name, black on white, next to its colour.
    legend = picture.crop((0, 520, 600, picture.height))
    rows = [where(legend, colour) for colour in REGIONS[:2]]
    assert rows[0][3] <= rows[1][1]
    assert all((np.asarray(legend)[top:bottom, right + 5 :] == 0).all(2).any() for _, top, right, bottom in rows)
    assert (
        picture.tobytes()
        != draw_regions(grey(600, 520), [regions[0], located("liver", (100, 200, 280, 420), False)]).tobytes()
    )


def test_a_picture_without_regions_stays_as_it_is():
    picture = draw_regions(grey(600, 520), [])
    assert (np.asarray(picture) == 100).all()
    assert picture.size == (600, 520)


@pytest.mark.parametrize("size", [(600, 40), (40, 600), (900, 9)])
def test_many_regions_with_long_names_fit(size: tuple[int, int]):
    space = Space.pixels(*size)
    box = Box(size[0] * 0.9, size[1] * 0.9, size[0], size[1], space)
    regions = [LocatedRegion(f"{number} " + "long name " * 20 + "x" * 300, box) for number in range(9)]
    picture = draw_regions(grey(*size), regions)
    assert picture.width >= size[0]
    ground = np.asarray(picture)
    assert (ground[-3:] == 255).all()  # the last name is whole
    assert all((ground == colour).all(axis=2).any() for colour in REGIONS)


def test_a_saved_reply_leaves_no_mask_of_an_earlier_one(tmp_path: Path):
    space = Space.pixels(600, 520)
    regions = (located("left lung", (300, 100, 500, 400)), located("heart", (100, 200, 280, 420)))
    (tmp_path / "scan.reply.x.mask.png").write_bytes(b"another's")
    saved = save_reply(Reply("Yes", "closed", space, regions=regions), grey(600, 520), tmp_path, stem="scan")
    assert [file.name for file in saved.masks] == ["scan.reply.1.mask.png", "scan.reply.2.mask.png"]
    for file, region in zip(saved.masks, regions, strict=True):
        assert (np.asarray(Image.open(file)) == region.mask * 255).all()
    told = json.loads(saved.json.read_text())
    assert [decode_rle(region["mask"]).sum() for region in told["regions"]] == [each.mask.sum() for each in regions]
    assert Image.open(saved.overlay).size[0] == 600
    again = save_reply(Reply("No", "closed", space), grey(600, 520), tmp_path, stem="scan")
    assert again.masks == ()
    names = {"scan.reply.json", "scan.reply.png", "scan.reply.x.mask.png"}
    assert {file.name for file in tmp_path.iterdir()} == names


def test_a_reply_is_saved_beside_a_result(tmp_path: Path, picture, reasoner, segmenter):
    result = MedGround(reasoner, segmenter).ground(picture, "Where?")
    before = save_result(result, picture, tmp_path)
    save_reply(Reply("Yes", "closed", picture.space), picture, tmp_path)
    assert json.loads(before.json.read_text())["bbox"]
    assert before.mask.is_file()
