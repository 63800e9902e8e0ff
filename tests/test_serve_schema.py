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
            # Half of the requests are about an upload that there is: others come no further than its name.
            if isinstance(case.body, dict) and isinstance(case.body.get("image"), str) and len(case.body["image"]) % 2:
                case.body["image"] = known
            if case.method == "GET" and "image" in case.path_parameters:
                case.path_parameters["image"] = known
            case.call_and_validate(checks=HELD)

        try:
            hold()
        except Unsatisfiable:  # nothing that is drawn is wrong for it
            assert mode is GenerationMode.NEGATIVE
