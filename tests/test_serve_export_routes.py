from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import FillingSegmenter
from made_server import drawn_png, serving, upload
from PIL import Image

from medground.masks import decode_rle, encode_rle


def drawn_mask(width: int = 80, height: int = 60) -> np.ndarray[Any, Any]:
    mask = np.zeros((height, width), bool)
    mask[10:30, 20:50] = True
    return mask


ANSWER = {
    "box": [20, 10, 50, 30],
    "points": [[25.5, 15.5], [40.5, 20.5]],
    "mask": encode_rle(drawn_mask()),
    "question": "Where is it?",
    "reasoning": "It is bright.",
    "label": "colon polyp",
}


def test_the_picture_shows_the_answer():
    with serving() as client:
        name = upload(client)
        bare, drawn = (client.post("/v1/export/png", json={"image": name, **more}) for more in ({}, ANSWER))
        assert drawn.headers["content-disposition"] == 'attachment; filename="medground.png"'
        before, after = (np.asarray(Image.open(io.BytesIO(answer.content))) for answer in (bare, drawn))
        changed = (before != after).any(axis=2)
        scale = before.shape[1] / 80
        ys, xs = np.nonzero(changed)
        assert xs.min() / scale == pytest.approx(20, abs=1)
        assert ys.max() / scale == pytest.approx(30, abs=1)


def test_json_is_the_result_with_what_was_asked():
    with serving() as client:
        said = client.post("/v1/export/json", json={"image": upload(client), **ANSWER}).json()
        assert (said["bbox"], said["points"], said["mask"], said["reasoning"], said["question"], said["label"]) == (
            *(ANSWER["box"], ANSWER["points"], ANSWER["mask"], "It is bright.", "Where is it?", "colon polyp"),
        )
        assert (said["reasoner"], said["segmenter"]) == ("scripted", "filling")
        assert "not a medical device" in said["notice"]


def test_coco_is_read_by_its_own_tools(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    from pycocotools.coco import COCO

    with serving() as client:
        answer = client.post("/v1/export/coco", json={"image": upload(client), **ANSWER})
    file = tmp_path / "answer.json"
    file.write_bytes(answer.content)
    read = COCO(str(file))
    [annotation] = read.loadAnns(read.getAnnIds())
    assert (annotation["bbox"], annotation["area"]) == ([20, 10, 30, 20], 600)
    [category] = read.loadCats(annotation["category_id"])
    assert category["name"] == "colon polyp"
    assert len(category["keypoints"]) == annotation["num_keypoints"] == len(annotation["keypoints"]) / 3 == 2
    assert (read.annToMask(annotation).astype(bool) == drawn_mask()).all()


def test_an_answer_without_a_place_exports_too():
    with serving() as client:
        name = upload(client)
        assert client.post("/v1/export/coco", json={"image": name}).json()["annotations"] == []
        said = client.post("/v1/export/coco", json={"image": name, "mask": ANSWER["mask"]}).json()
        assert said["annotations"][0]["bbox"] == [20, 10, 30, 20]
        assert "keypoints" not in said["categories"][0]
        assert client.post("/v1/export/json", json={"image": name}).json()["bbox"] is None


def test_dicom_objects_lie_on_their_source():
    pydicom = pytest.importorskip("pydicom")
    pytest.importorskip("highdicom")
    source = Path(pydicom.data.get_testdata_file("CT_small.dcm"))
    with serving() as client:
        name = upload(client, source.read_bytes())
        answer = {**ANSWER, "image": name, "label": "spleen", "mask": encode_rle(drawn_mask(128, 128))}
        files = {kind: client.post(f"/v1/export/{kind}", json=answer) for kind in ("dicom-seg", "dicom-sr")}
        seg, sr = (pydicom.dcmread(io.BytesIO(file.content)) for file in files.values())
        assert (seg.Modality, sr.Modality) == ("SEG", "SR")
        assert seg.StudyInstanceUID == sr.StudyInstanceUID == pydicom.dcmread(source).StudyInstanceUID
        assert (seg.pixel_array.astype(bool) == drawn_mask(128, 128)).all()
        assert files["dicom-sr"].headers["content-disposition"] == 'attachment; filename="medground.sr.dcm"'
        without = client.post("/v1/export/dicom-seg", json={**answer, "mask": None})
        assert (without.status_code, "mask: it is missing" in without.json()["detail"]) == (422, True)


@pytest.mark.parametrize(
    ("kind", "more", "said"),
    [
        ("dicom-seg", {}, "only be made for a DICOM"),
        ("dicom-sr", {}, "only be made for a DICOM"),
        ("pickle", {}, "kind"),
        ("png", {"mask": encode_rle(drawn_mask(90, 60))}, "isn't that of the picture"),
        ("png", {"mask": {"size": [60, 80], "counts": "~~~~"}}, "run-length"),
        ("png", {"mask": {"size": [60, 80], "counts": "0"}}, "run-length"),
        ("png", {"mask": {"size": [60, 80]}}, "mask.counts"),
        ("json", {"box": [1, 1, 1, 1]}, "no area"),
        ("json", {"points": [[1]]}, "points.0"),
        ("json", {"label": "x" * 65}, "label"),
        ("json", {"out": "/etc/passwd"}, "out"),
    ],
)
def test_what_cannot_be_exported_is_said(kind: str, more: dict[str, Any], said: str):
    with serving() as client:
        answer = client.post(f"/v1/export/{kind}", json={"image": upload(client), **ANSWER, **more})
        assert (answer.status_code, said in answer.json()["detail"]) == (422, True), answer.text


def test_a_corrected_box_is_followed_and_exported():
    with serving(segmenter=FillingSegmenter()) as client:
        name = upload(client, drawn_png())
        corrected = {"image": name, "box": [5, 6, 25, 16]}
        mask = client.post("/v1/segment", json=corrected).json()["mask"]
        said = json.loads(client.post("/v1/export/json", json={**corrected, "mask": mask}).content)
        assert int(decode_rle(said["mask"]).sum()) == 200
