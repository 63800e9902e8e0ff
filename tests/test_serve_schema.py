"""What the API says of itself holds: schemathesis draws requests from the OpenAPI document, good and bad ones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from conftest import ScriptedReasoner, middle
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from made_server import serving, upload

from medground.coords import Space
from medground.reasoners import Request

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis isn't installed: pip install medground[dev]")
from schemathesis import GenerationMode, checks  # noqa: E402

VISUAL = "<think>The base (region [100, 0, 500, 1000])</think><response><answer>B</answer></response>"
HELD = [
    checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
]


def script(request: Request, space: Space) -> str:
    return middle(request, space) if request.visual is None else VISUAL


@pytest.fixture(scope="module")
def served() -> Iterator[Any]:
    with serving(ScriptedReasoner(script), jobs=1000, hosts=("testserver",)) as client:
        yield client


def come_further(case: Any, known: str) -> None:
    """Let half of the requests be about an upload that there is, as the file has it: others end at its name."""
    body = case.body if isinstance(case.body, dict) else {}
    if isinstance(body.get("image"), str) and len(body["image"]) % 2:
        body["image"] = known
    if len(body) % 2:
        for name in ("frame", "slice", "axis", "window"):
            body.pop(name, None)
    if case.method == "GET" and "image" in case.path_parameters:
        case.path_parameters["image"] = known
    if "model" in case.path_parameters:
        case.path_parameters["model"] = "medground" if len(body) % 2 else "filling"
        case.query = {**case.query, "session_id": known}
        body.pop("file", None)


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
def test_requests_drawn_from_the_document_are_answered_as_it_says(served: Any, mode: GenerationMode) -> None:
    schema = schemathesis.openapi.from_asgi("/openapi.json", served.app)
    known = upload(served)
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) > 20
    for operation in operations:

        @given(case=operation.as_strategy(generation_mode=mode))
        @settings(max_examples=10, suppress_health_check=list(HealthCheck))
        def hold(case: Any) -> None:
            come_further(case, known)
            case.call_and_validate(checks=HELD)

        try:
            hold()
        except Unsatisfiable:  # nothing that is drawn is wrong for it
            assert mode is GenerationMode.NEGATIVE
