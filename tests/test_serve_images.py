from __future__ import annotations

import io
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_server import drawn_png, service_of, serving, upload
from PIL import Image

from medground.errors import ImageError
from medground.serve.images import Images, UnknownImageError, View, as_file
from medground.serve.limits import Limits


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def kept(images: Images, name: str, caller: str = "") -> bool:
    try:
        return images.get(name, caller).id == name
    except UnknownImageError:
        return False


def test_an_upload_is_its_callers_alone():
    images = Images(Limits())
    name = images.add(drawn_png(), View(), "one").id
    assert kept(images, name, "one")
    assert not kept(images, name, "two")
    assert not kept(images, name, "")
    with pytest.raises(UnknownImageError):
        images.forget(name, "two")
    assert kept(images, name, "one")


def test_unused_uploads_are_forgotten_after_a_while():
    clock = Clock()
    images = Images(Limits(image_seconds=10), clock)
    old, used = (images.add(drawn_png(number), View(), "").id for number in range(2))
    clock.now = 9
    assert kept(images, used)
    clock.now = 11
    assert (kept(images, old), kept(images, used), len(images)) == (False, True, 1)
    assert images.held_bytes == len(drawn_png(1)) + 80 * 60 * 3


def test_uploads_are_forgotten_though_nobody_asks_any_more():
    with serving(image_seconds=0.05) as client:
        upload(client)
        for _ in range(500):
            if not len(service_of(client).images):
                return
            time.sleep(0.02)
    raise AssertionError("the upload is still there")


def test_the_least_recently_used_make_room():
    images = Images(Limits(images=2))
    first, second = (images.add(drawn_png(number), View(), "").id for number in range(2))
    images.touch(first)
    third = images.add(drawn_png(2), View(), "").id
    assert [kept(images, name) for name in (first, second, third)] == [True, False, True]


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["add", "get", "forget", "view"])), max_size=25))
@settings(max_examples=30)
def test_bounds_hold_whatever_is_done(steps: list[tuple[int, str]]):
    contents = [drawn_png(number, (40 + 10 * number, 30)) for number in range(4)]
    most = 2 * max(map(len, contents))
    limits = Limits(images=3, image_bytes=most, view_bytes=20_000)
    images, names = Images(limits), []
    for number, step in steps:
        if step == "add":
            names.append(images.add(contents[number], View(), "").id)
            assert kept(images, names[-1])
        elif names:
            name = names[number % len(names)]
            if not kept(images, name):
                continue
            if step == "view":
                assert images.picture(images.get(name, ""), View(window=(100, 50 + number))).height == 30
            elif step == "forget":
                images.forget(name, "")
        assert len(images) <= limits.images
        assert sum(len(images.get(name, "").content) for name in names if kept(images, name)) <= most
        assert images.held_bytes <= most + limits.view_bytes


def test_no_path_and_no_name_is_told():
    images = Images(Limits())
    with pytest.raises(ImageError) as caught:
        images.read(drawn_png()[:100], View())
    assert str(caught.value).startswith("the image is a PNG that is damaged")
    assert "/" not in str(caught.value)
    assert images.read(drawn_png(), View()).provenance.file_name == "upload"


def test_nothing_is_written_to_a_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    with serving() as client:
        rows, columns = np.mgrid[:1500, :1500]  # over the size up to which a form's files stay in memory by default
        stream = io.BytesIO()
        Image.fromarray(((rows * columns) % 251).astype(np.uint8)).save(stream, "BMP")
        assert len(stream.getvalue()) > 1 << 21
        name = upload(client, stream.getvalue())
        assert client.get(f"/v1/images/{name}/view.png").status_code == 200


def test_a_file_for_readers_has_the_content_and_goes_away(monkeypatch: pytest.MonkeyPatch):
    with as_file(b"content") as path:
        assert path.read_bytes() == b"content"
        assert path.is_file()
    monkeypatch.delattr("os.memfd_create", raising=False)  # systems without it
    with as_file(b"content") as path:
        assert path.read_bytes() == b"content"
        assert path.parent.stat().st_mode & 0o077 == 0
    assert not path.parent.exists()


@pytest.mark.parametrize(
    ("asked", "usual", "meant"),
    [
        (View(), View(2, "axial", 8, (1.0, 2.0)), View(2, "axial", 8, (1.0, 2.0))),
        (View(slice=3), View(0, "axial", 8), View(0, "axial", 3)),
        (View(axis="coronal"), View(0, "axial", 8), View(0, "coronal", None)),  # slice 8 would be another place there
        (View(axis="axial"), View(0, "axial", 8), View(0, "axial", 8)),
        (View(frame=0, window=(4, 5)), View(2, None, None, (1, 2)), View(0, None, None, (4, 5))),
    ],
)
def test_a_view_leaves_open_what_was_chosen_before(asked: View, usual: View, meant: View):
    assert asked.over(usual) == meant


# --------------------------------------------------------------------------------------------------- the routes


def test_an_upload_is_described_and_shown_as_models_see_it():
    with serving() as client:
        told = client.post("/v1/images", files={"file": ("x", drawn_png())}).json()
        name = told.pop("image")
        assert (told["width"], told["height"], told["kind"], told["frames"], told["axes"]) == (80, 60, "png", 1, None)
        shown = client.get(f"/v1/images/{name}/view.png")
        expected = np.asarray(Image.open(io.BytesIO(drawn_png())).convert("RGB"))
        assert shown.headers["content-type"] == "image/png"
        assert (np.asarray(Image.open(io.BytesIO(shown.content))) == expected).all()
        windowed = client.get(f"/v1/images/{name}/view.png", params={"window": "100,40"})
        assert windowed.status_code == 200
        assert windowed.content != shown.content
        assert client.delete(f"/v1/images/{name}").status_code == 204
        assert client.get(f"/v1/images/{name}/view.png").status_code == 404
        assert client.delete(f"/v1/images/{name}").status_code == 404


def test_a_volume_is_cut_along_its_axes():
    nibabel = pytest.importorskip("nibabel")
    values = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)
    content = nibabel.Nifti1Image(values, np.eye(4)).to_bytes()
    with serving() as client:
        told = client.post("/v1/images", files={"file": ("x", content)}, data={"axis": "axial", "slice": "2"}).json()
        assert (told["kind"], told["axes"]) == ("nifti", {"axial": 6, "coronal": 5, "sagittal": 4})
        assert (told["axis"], told["slice"], told["width"], told["height"]) == ("axial", 2, 4, 5)
        assert told["window_range"][0] < told["window"][0] < told["window_range"][1]
        path = f"/v1/images/{told['image']}/view.png"
        for axis, size in (("axial", (4, 5)), ("coronal", (4, 6)), ("sagittal", (5, 6))):
            for index in range(told["axes"][axis]):
                shown = client.get(path, params={"axis": axis, "slice": index})
                assert Image.open(io.BytesIO(shown.content)).size == size
            beyond = client.get(path, params={"axis": axis, "slice": told["axes"][axis]})
            assert (beyond.status_code, "valid is 0 to" in beyond.json()["detail"]) == (422, True)
        usual, named = client.get(path), client.get(path, params={"axis": "axial", "slice": 2})
        assert usual.content == named.content


def test_a_dicom_tells_its_modality():
    pydicom = pytest.importorskip("pydicom")
    content = Path(pydicom.data.get_testdata_file("CT_small.dcm")).read_bytes()
    with serving() as client:
        told = client.post("/v1/images", files={"file": ("x", content)}).json()
        assert (told["kind"], told["modality"], told["width"], told["height"]) == ("dicom", "CT", 128, 128)
        assert "CompressedSamples" not in str(told)  # the patient's name in that file


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("frame=1", "has no frame 1"),
        ("slice=0", "axis and slice are for NIfTI volumes"),
        ("axis=up", "axis"),
        ("window=1", "window"),
        ("window=1,0", "width above 0"),
        ("window=nan,1", "window"),
        ("window=a,b", "window: "),
        ("window=[[[", "window"),
        ("frame=-1", "frame"),
        ("frame=99999999999999999999", "frame"),
    ],
)
def test_a_view_that_is_not_there_is_refused(query: str, said: str):
    with serving() as client:
        answer = client.get(f"/v1/images/{upload(client)}/view.png?{query}")
        assert (answer.status_code, said in answer.json()["detail"]) == (422, True), answer.text


def test_examples_are_real_images_with_credits():
    with serving() as client:
        examples = client.get("/v1/examples").json()
        if not examples:
            pytest.skip("no package that carries example images is installed: pip install 'medground[demo]'")
        for example in examples:
            assert all(example[name] for name in ("id", "title", "question", "credit", "licence"))
            told = client.post(f"/v1/examples/{example['id']}")
            assert told.status_code == 200
            assert client.get(f"/v1/images/{told.json()['image']}/view.png").status_code == 200
        assert client.post("/v1/examples/..%2f..%2fetc%2fpasswd").status_code == 404
        assert client.post("/v1/examples/skimage-77").status_code == 404


@pytest.mark.parametrize(
    ("files", "data", "status", "said"),
    [
        ({"file": ("x", b"plain text, no image")}, {}, 415, "isn't a PNG"),
        ({"file": ("x", b"")}, {}, 415, "empty"),
        ({"file": ("x", drawn_png()[:100])}, {}, 415, "damaged"),
        ({"file": ("x", drawn_png())}, {"frame": "7"}, 422, "has no frame 7"),
        ({"file": ("x", drawn_png()[:100])}, {"frame": "7"}, 415, "damaged"),
        ({"file": ("x", drawn_png())}, {"path": "/etc/passwd"}, 422, "path: "),
        ({"image": ("x", drawn_png())}, {}, 422, "'file'"),
        ({}, {"frame": "1"}, 415, "multipart"),
        ({"file": ("x", drawn_png(size=(300, 300)))}, {}, 413, "above the limit"),
    ],
)
def test_uploads_that_are_no_images_are_refused(files: Any, data: Any, status: int, said: str):
    with serving(pixels=10_000) as client:
        answer = client.post("/v1/images", files=files, data=data)
        assert (answer.status_code, said in answer.json()["detail"]) == (status, True), answer.text
