"""MONAI Label's wire. Its own client asks a real server in test_serve_server.py."""

from __future__ import annotations

import email
import gzip
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st
from made_server import drawn_png, serving

from medground.nifti_reader import PLANES
from medground.serve.images import Images, View
from medground.serve.limits import Limits
from medground.serve.volumes import grid_of
from medground.types import Grounding, Result

nibabel = pytest.importorskip("nibabel")

TOKEN = "a-token-of-some-length"


def volume(shape: tuple[int, int, int] = (6, 7, 5), affine: Any = None) -> bytes:
    values = np.arange(np.prod(shape), dtype=np.int16).reshape(shape)
    return nibabel.Nifti1Image(values, np.diag([2.0, 3.0, 4.0, 1.0]) if affine is None else affine).to_bytes()


def opened(client: TestClient, content: bytes, **more: Any) -> str:
    answer = client.put("/session/", files={"files": ("Doe^Jane.nii", content)}, **more)
    assert answer.status_code == 200, answer.text
    return answer.json()["session_id"]


def parts(answer: Any) -> tuple[dict[str, Any], bytes]:
    """Read a multipart answer: its params and its file."""
    head = f"content-type: {answer.headers['content-type']}\r\n\r\n".encode()
    params, file = email.message_from_bytes(head + answer.content).get_payload()
    assert (params.get_param("name", header="content-disposition"), file.get_filename()[:9]) == ("params", "medground")
    return json.loads(params.get_payload()), file.get_payload(decode=True)


def infer(client: TestClient, model: str, session: str, output: str = "", **params: Any) -> Any:
    query = {"image": "x", "session_id": session, **({"output": output} if output else {})}
    return client.post(f"/infer/{model}", params=query, files={"params": (None, json.dumps(params))})


def test_the_models_are_told_as_the_plugins_expect():
    with serving() as client:
        info = client.get("/info/").json()
        assert {name: model["type"] for name, model in info["models"].items()} == {
            "medground": "segmentation",
            "filling": "deepgrow",
        }
        assert "question" in info["models"]["medground"]["config"]
        assert {"name", "description", "version", "labels", "trainers", "strategies", "datastore"} <= set(info)
        assert client.get("/auth/").json() == {"enabled": False}


def test_people_log_in_with_the_token_as_password():
    with serving(tokens=(TOKEN,)) as client:
        assert client.get("/auth/").json() == {"enabled": True}
        wrong = client.post("/auth/token", data={"username": "me", "password": "guess"})
        assert wrong.status_code == 401
        said = client.post("/auth/token", data={"username": "me", "password": TOKEN}).json()
        headers = {"Authorization": f"{said['token_type']} {said['access_token']}"}
        assert client.get("/auth/token/valid", headers=headers).status_code == 200
        session = opened(client, volume(), headers=headers)
        assert client.get(f"/session/{session}", headers=headers).status_code == 200
        assert client.get(f"/session/{session}").status_code == 401


def test_a_session_is_kept_until_it_is_ended():
    with serving() as client:
        session = opened(client, volume())
        assert client.get(f"/session/{session}").status_code == 200
        assert client.delete(f"/session/{session}").status_code == 200
        assert (
            client.get(f"/session/{session}").status_code,
            infer(client, "medground", session, question="?").status_code,
        ) == (404, 404)


@pytest.mark.parametrize("axis", PLANES)
def test_a_question_is_answered_on_the_grid_of_the_image(axis: str):
    with serving() as client:
        session = opened(client, volume())
        params, file = parts(infer(client, "medground", session, question="Where?", axis=axis, slice=2))
        labels = nibabel.Nifti1Image.from_bytes(gzip.decompress(file))
        assert labels.shape == (6, 7, 5)
        assert (labels.affine == np.diag([2.0, 3.0, 4.0, 1.0])).all()
        cut = PLANES[axis][0]
        where = np.argwhere(np.asarray(labels.dataobj))
        assert set(where[:, cut]) == {2}
        assert len(where) == decoded_area(params)
        assert (params["label_names"], params["reasoning"]) == ({"target": 1}, "It is in the middle.")


def decoded_area(params: dict[str, Any]) -> int:
    x1, y1, x2, y2 = (round(value) for value in params["bbox"])  # as the filling segmenter fills it
    return (x2 - x1) * (y2 - y1)


AXES = st.permutations([0, 1, 2])
SIGNS = st.tuples(*[st.sampled_from([1, -1])] * 3)


@given(order=AXES, signs=SIGNS, voxel=st.tuples(st.integers(0, 3), st.integers(0, 4), st.integers(0, 5)))
@settings(max_examples=40)
def test_a_voxel_is_found_again_in_every_orientation(order: list[int], signs: tuple[int, ...], voxel: tuple[int, ...]):
    affine = np.zeros((4, 4))
    for axis, (canonical, sign) in enumerate(zip(order, signs, strict=True)):
        affine[canonical, axis] = sign * (axis + 1.5)
    affine[3, 3] = 1
    values = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)
    images = Images(Limits())
    upload = images.add(nibabel.Nifti1Image(values, affine).to_bytes(), View(window=(60, 240)), "")
    grid = grid_of(upload)
    for axis in (None, *PLANES):
        view = grid.view_through(list(map(float, voxel)), axis).view()
        picture = images.picture(upload, view)
        point = grid.point(list(map(float, voxel)), picture)
        row, column = int(point.y), int(point.x)
        shown = (values[voxel] + 60) / 240 * 255  # the window, centre 60 and width 240, by the formula of DICOM
        assert abs(int(picture.rgb[row, column, 0]) - shown) <= 2
        mask = np.zeros(picture.rgb.shape[:2], bool)
        mask[row, column] = True
        found = Result(Grounding("", (), (), picture.space), mask, "", "", provenance=picture.provenance)
        assert np.argwhere(grid.labels(found)).tolist() == [list(voxel)]
        box = grid.box([side for side in map(float, voxel) for _ in range(2)], picture)
        assert box.xyxy == pytest.approx((column, row, column + 1, row + 1))


def test_a_region_of_interest_is_segmented_on_its_slice():
    with serving() as client:
        session = opened(client, volume())
        for roi in ([1, 3, 2, 5, 4, 4], [3, 1, 5, 2, 4, 4]):  # a plugin's corners may come the other way round
            params, file = parts(infer(client, "filling", session, roi=roi, label="spleen", result_extension=".nii"))
            where = np.argwhere(np.asarray(nibabel.Nifti1Image.from_bytes(file).dataobj))
            assert (where.min(0).tolist(), where.max(0).tolist()) == ([1, 2, 4], [3, 5, 4])
            assert params["label_names"] == {"spleen": 1}


def test_points_are_given_to_a_segmenter_that_knows_them():
    from conftest import FillingSegmenter

    with serving(segmenter=FillingSegmenter(frozenset({"box", "points"}))) as client:
        session = opened(client, volume())
        points = [[1, 2, 3], [4, 5, 3], [0, 0, 0]]  # the last shows the slice; others aren't on it
        params, file = parts(infer(client, "filling", session, foreground=points[::-1], background=[[0, 1, 3]]))
        where = np.argwhere(np.asarray(nibabel.Nifti1Image.from_bytes(gzip.decompress(file)).dataobj))
        assert sorted(where.tolist()) == [[1, 2, 3], [4, 5, 3]]
        assert "background points aren't used" in params["notes"]
    with serving() as client:
        said = infer(client, "filling", opened(client, volume()), foreground=points)
        assert (said.status_code, "boxes only" in said.json()["detail"]) == (422, True)


def test_a_picture_is_a_volume_of_one_frame():
    with serving() as client:
        params, file = parts(infer(client, "medground", opened(client, drawn_png()), question="Where?"))
        labels = np.asarray(nibabel.Nifti1Image.from_bytes(gzip.decompress(file)).dataobj)
        assert labels.shape == (80, 60, 1)
        assert np.argwhere(labels)[:, :2].min(0).tolist() == [20, 15]
        assert params["bbox"] == [20, 15, 60, 30]


def test_outputs_are_what_was_asked_for():
    with serving() as client:
        session = opened(client, volume())
        alone = infer(client, "medground", session, "json", question="Where?")
        assert alone.json()["reasoning"] == "It is in the middle."
        image = infer(client, "medground", session, "image", question="Where?")
        assert nibabel.Nifti1Image.from_bytes(gzip.decompress(image.content)).shape == (6, 7, 5)
        assert infer(client, "medground", session, "dicom_seg", question="Where?").status_code == 422


def test_nrrd_holds_the_same_labels():
    affine = np.array([[-2.0, 0, 0, 10], [0, 3, 0, -20], [0, 0, 4, 30], [0, 0, 0, 1]])
    with serving() as client:
        session = opened(client, volume(affine=affine))
        ask = {"question": "Where?", "axis": "axial", "slice": 1}
        nii = infer(client, "medground", session, "image", result_extension=".nii", **ask).content
        nrrd = infer(client, "medground", session, "image", result_extension=".nrrd", **ask).content
    head, _, data = nrrd.partition(b"\n\n")
    fields = dict(line.split(": ", 1) for line in head.decode().splitlines()[1:])
    assert head.startswith(b"NRRD0004\n")
    sizes = tuple(map(int, fields["sizes"].split()))
    read = np.frombuffer(data, np.uint8).reshape(sizes, order="F")
    assert (read == np.asarray(nibabel.Nifti1Image.from_bytes(nii).dataobj)).all()
    assert (fields["space"], fields["space origin"]) == ("left-posterior-superior", "(-10,20,30)")
    assert fields["space directions"] == "(2,0,0) (0,-3,0) (0,0,4)"
    assert (fields["type"], fields["encoding"]) == ("unsigned char", "raw")


def test_a_dicom_series_is_found_by_its_uid_and_answered_as_dicom():
    pydicom = pytest.importorskip("pydicom")
    pytest.importorskip("highdicom")
    source = Path(pydicom.data.get_testdata_file("CT_small.dcm"))
    series = str(pydicom.dcmread(source).SeriesInstanceUID)
    with serving() as client:
        assert client.post(f"/infer/medground?image={series}", files={"params": (None, "{}")}).status_code == 404
        opened(client, source.read_bytes())
        form = {"params": (None, json.dumps({"question": "Where?", "label": "spleen"}))}
        answer = client.post(f"/infer/medground?image={series}&output=dicom_seg", files=form)
        seg = pydicom.dcmread(io.BytesIO(answer.content))
        assert (seg.Modality, seg.SegmentSequence[0].SegmentLabel) == ("SEG", "spleen")


def test_a_file_may_come_with_the_question():
    with serving() as client:
        form = {"params": (None, json.dumps({"question": "Where?"})), "file": ("Doe^Jane.png", drawn_png())}
        params, _ = parts(client.post("/infer/medground", files=form))
        assert "Doe" not in json.dumps(params)


@pytest.mark.parametrize(
    ("model", "params", "status", "said"),
    [
        ("medground", {}, 422, "the model's option 'question'"),
        ("unknown", {"question": "Where?"}, 404, "no such model"),
        ("filling", {}, 422, "region of interest"),
        ("filling", {"roi": [1, 2, 3]}, 422, "region of interest"),
        ("filling", {"roi": [1, 2, 3, 4, 99, 99]}, 422, "valid is 0 to 4"),
        ("filling", {"roi": [90, 95, 90, 95, 1, 1]}, 422, "region of interest"),
        ("filling", {"foreground": [[1, 2]]}, 422, "foreground.0"),
        ("filling", {"foreground": [[1e300, 1e300, 1e300]]}, 422, "slice"),
        ("medground", {"question": "Where?", "slice": 7}, 422, "valid is 0 to 4"),
        ("medground", {"question": "Where?", "axis": "up"}, 422, "axis"),
        ("medground", {"question": "Where?", "result_extension": "/../x"}, 422, "result_extension"),
    ],
)
def test_what_cannot_be_answered_is_said(model: str, params: dict[str, Any], status: int, said: str):
    with serving() as client:
        answer = infer(client, model, opened(client, volume()), **params)
        assert (answer.status_code, said in answer.json()["detail"]) == (status, True), answer.text


@pytest.mark.parametrize(
    "form", [{"params": (None, "{")}, {"params": (None, "[]")}, {"params": (None, "")}, {"label": ("x", b"x")}]
)
def test_forms_that_cannot_be_read_are_refused(form: Any):
    with serving() as client:
        answer = client.post(f"/infer/medground?session_id={opened(client, volume())}", files=form)
        assert answer.status_code == 422
        assert client.put("/session/", files=form).status_code == 422


def test_a_volume_that_its_header_makes_too_large_is_refused(monkeypatch: pytest.MonkeyPatch):
    from medground.serve import volumes

    monkeypatch.setattr(volumes, "_MAX_VOXELS", 100)
    with serving() as client:
        answer = infer(client, "medground", opened(client, volume()), question="Where?")
        assert (answer.status_code, "210 voxels" in answer.json()["detail"]) == (422, True)
