"""Fields of every kind, by hypothesis and by what schemathesis makes of the API's own description."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_server import serving, upload
from pydantic import BaseModel

from medground.serve.fields import AskFields, ExportFields, GroundFields, JobFields, SegmentFields


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    # schemathesis asks its own client's name, "testserver".
    with serving(
        hosts=("testserver",), upload_bytes=1 << 20, pixels=1 << 20, images=4, image_bytes=1 << 21, view_bytes=1 << 21
    ) as client:
        yield client


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 70), 1 << 70) | st.floats(width=32) | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=6,
)
MODELS: dict[str, type[BaseModel]] = {
    "ground": GroundFields,
    "ask": AskFields,
    "segment": SegmentFields,
    "jobs": JobFields,
    "export/png": ExportFields,
    "export/coco": ExportFields,
    "export/dicom-sr": ExportFields,
}
GOOD = {"question": "Where?", "box": [1, 2, 30, 40], "points": [[3, 4]], "items": [{"question": "Where?"}]}


@given(
    path=st.sampled_from(sorted(MODELS)),
    fields=st.dictionaries(st.integers(0, 20), JSON, max_size=3),
    known=st.booleans(),
)
@settings(max_examples=60)
def test_no_fields_make_a_fault(client: TestClient, path: str, fields: dict[int, Any], known: bool):
    names = [name for name in MODELS[path].model_fields if name != "image"]
    body = {name: GOOD[name] for name in names if name in GOOD}
    body |= {names[number % len(names)]: value for number, value in fields.items()}
    if known and path != "jobs":
        body["image"] = upload(client)
    headers = {"content-type": "application/json"}
    answer = client.post(f"/v1/{path}", content=json.dumps(body), headers=headers)  # NaN and infinities too
    assert answer.status_code in (200, 202, 404, 422), answer.text
    assert answer.status_code in (200, 202) or answer.json()["detail"]


def test_the_documented_api_is_kept(client: TestClient):
    schemathesis = pytest.importorskip("schemathesis")
    schema = schemathesis.openapi.from_asgi("/openapi.json", client.app)
    checked = []
    for result in schema.get_all_operations():
        operation = result.ok()

        @given(case=operation.as_strategy())
        @settings(max_examples=3, suppress_health_check=list(HealthCheck), deadline=None, database=None)
        def one(case: Any) -> None:
            answer = case.call()
            checked.append(answer.status_code)
            assert answer.status_code < 500

        one()
    assert len(checked) > 20


def test_paths_lead_nowhere(client: TestClient):
    for path in (
        *("/..%2f..%2fetc/passwd", "/static/%2e%2e/app.py", "/v1/images/..%2fx/view.png", "//etc/passwd"),
        *("/v1/images/%00/view.png", "/v1/export/../../x", "/" + "x" * 5000, "/v1/examples/%ff"),
    ):
        answer = client.get(path)
        assert answer.status_code in (400, 404, 405)
        assert "root:" not in answer.text
