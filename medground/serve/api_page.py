"""``/docs``: what OpenAPI says of the API, as one page that asks nothing of any other server."""

from __future__ import annotations

import json
from html import escape
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

__all__ = ["api_page", "router"]

router = APIRouter()


@router.get("/docs", include_in_schema=False, response_class=HTMLResponse)
def docs(request: Request) -> str:
    """Return the page."""
    return api_page(request.app.openapi())


def api_page(api: dict[str, Any]) -> str:
    """Return an OpenAPI description as HTML without scripts.

    Examples
    --------
    >>> api = {"info": {"title": "x", "version": "1"}, "paths": {"/a": {"get": {"description": "Do <it>."}}}}
    >>> "<h2><code>GET /a</code></h2><p>Do &lt;it&gt;.</p>" in api_page(api)
    True
    """
    info = api["info"]
    parts = [
        _operation(method, path, told) for path, methods in api["paths"].items() for method, told in methods.items()
    ]
    title = escape(f"{info['title']} {info['version']}")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{title}: the API</title><link rel="stylesheet" href="static/base.css"></head><body><main>'
        f"<h1>{title}: the API</h1><p>{escape(info.get('description', ''))}</p>"
        '<p>The same for programs: <a href="openapi.json">openapi.json</a>. Coordinates are source pixels from the '
        "picture's top left, x before y; masks are COCO run lengths. Errors are JSON with a sentence as "
        "<code>detail</code>.</p>" + "".join(parts) + "</main></body></html>"
    )


def _operation(method: str, path: str, told: dict[str, Any]) -> str:
    words = "".join(f"<p>{escape(part)}</p>" for part in told.get("description", "").split("\n\n") if part.strip())
    asked = "".join(
        f"<li><code>{escape(one['name'])}</code> ({escape(one['in'])}): {_type(one.get('schema', {}))}</li>"
        for one in told.get("parameters", ())
    )
    bodies = "".join(
        f"<details><summary>body: <code>{escape(kind)}</code></summary>{_fields(body.get('schema', {}))}</details>"
        for kind, body in told.get("requestBody", {}).get("content", {}).items()
    )
    return f"<h2><code>{method.upper()} {escape(path)}</code></h2>{words}{f'<ul>{asked}</ul>' if asked else ''}{bodies}"


def _fields(schema: dict[str, Any]) -> str:
    if "properties" not in schema:
        return f"<p>{_type(schema)}</p>"
    needed = schema.get("required", ())
    rows = "".join(
        f"<li><code>{escape(name)}</code>{', needed' if name in needed else ''}: {_type(told)}</li>"
        for name, told in schema["properties"].items()
    )
    return f"<ul>{rows}</ul>"


def _type(schema: dict[str, Any]) -> str:
    kept = {name: value for name, value in schema.items() if name not in ("title", "description")}
    return f"<code>{escape(json.dumps(kept))}</code> {escape(schema.get('description', ''))}"
