"""Requests' bodies: JSON, or a form with one file, read into memory and nowhere else."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from fastapi import HTTPException, Request
from pydantic import BaseModel
from python_multipart.multipart import parse_options_header
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from medground.serve.limits import Limits

__all__ = ["BINARY", "FORM_BYTES", "Room", "body_schema", "form_schema", "hold_room", "read_fields", "read_form"]

Model = TypeVar("Model", bound=BaseModel)
BINARY = {"type": "string", "format": "binary"}
"""What OpenAPI says of a file in a form."""
FORM_BYTES = 1 << 20
"""How much longer a form may be than the file in it."""


class Room:
    """How many bytes of bodies may be in memory at once: twice the largest."""

    def __init__(self, limits: Limits) -> None:
        self._most = limits.upload_bytes + FORM_BYTES
        self._left = 2 * self._most

    @contextmanager
    def taken(self, announced: str | None) -> Iterator[None]:
        """Hold room for a body of so many bytes, or of any length; answers 429 where there is none."""
        size = self._most if announced is None else min(int(announced), self._most)
        if size > self._left:
            raise HTTPException(
                429, "too many uploads are under way; send it again a little later", headers={"retry-after": "2"}
            )
        self._left -= size
        try:
            yield
        finally:
            self._left += size


async def hold_room(request: Request) -> AsyncIterator[None]:
    """Hold room for a request's body until it is answered; a dependency of all routes."""
    headers = request.headers
    announced = headers.get("content-length", None if "transfer-encoding" in headers else "0")
    room: Room = request.app.state.service.room
    with room.taken(announced):
        yield


async def read_form(request: Request, file_field: str = "file") -> tuple[dict[str, str], bytes | None]:
    """Return a form's fields, and the content of its file; the file's name is left unread.

    Raises
    ------
    HTTPException
        413, 415, 422 or 429, with what is wrong.
    """
    kind, options = parse_options_header(request.headers.get("content-type"))
    if kind.lower() != b"multipart/form-data":
        raise HTTPException(415, "send a form (multipart/form-data) with the image as its field 'file'")
    if options.get(b"charset", b"utf-8").lower() not in (b"utf-8", b"us-ascii"):  # some make half characters of bytes
        raise HTTPException(415, "send the form's text as UTF-8")
    parser = MultiPartParser(request.headers, request.stream(), max_files=1, max_fields=40, max_part_size=FORM_BYTES)
    parser.spool_max_size = sys.maxsize  # never rolled over to a file: pixels stay in memory, and their size is bounded
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise HTTPException(422, f"the form can't be read: {error.message}") from None
    try:
        fields: dict[str, str] = {}
        content = None
        for name, value in form.multi_items():
            if isinstance(value, UploadFile):
                if name != file_field:
                    raise HTTPException(422, f"the file's field is named '{file_field}'")
                content = await value.read()
            elif name in fields:
                raise HTTPException(422, "a field of the form is given twice")
            else:
                fields[name] = value
    finally:
        await form.close()
    if content == b"":
        raise HTTPException(415, "the file is empty; choose another one")
    return fields, content


async def read_fields(request: Request, model: type[Model]) -> tuple[Model, bytes | None]:
    """Return a request's fields, from JSON or a form, and the form's file."""
    if request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        fields, content = await read_form(request)
        return model.model_validate(fields), content
    return model.model_validate_json(await request.body()), None


def form_schema(**properties: dict[str, Any]) -> dict[str, Any]:
    """Return what OpenAPI says of a form with these fields, of which a ``file`` may be left out."""
    required = [name for name in properties if name != "file"]
    schema = {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}


def body_schema(model: type[BaseModel], *, form: bool = True, json: bool = True) -> dict[str, Any]:
    """Return what OpenAPI says of a body that `read_fields` reads."""
    schema = model.model_json_schema()
    definitions = schema.pop("$defs", {})
    plain = _inlined(schema, definitions)
    content: dict[str, Any] = {"application/json": {"schema": plain}} if json else {}
    if form:
        properties = {"file": BINARY, **plain["properties"]}
        properties.pop("image", None)
        required = ["file", *(name for name in plain.get("required", []) if name != "image")]
        fields = {**plain, "properties": properties, "required": required}
        content["multipart/form-data"] = {"schema": fields}
    return {"requestBody": {"required": True, "content": content}}


def _inlined(schema: Any, definitions: dict[str, Any]) -> Any:
    if isinstance(schema, list):
        return [_inlined(part, definitions) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _inlined(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    return {name: _inlined(part, definitions) for name, part in schema.items()}
