"""`/docs`: the API for people, made from OpenAPI's description, without a script."""

from __future__ import annotations

from html import escape
from typing import Any

from fastapi import APIRouter, FastAPI, Response

from toplabel.serve.page import send_page

STYLE = """\
:root { color-scheme: light dark; --line: #8884; --faint: #8882; }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 60rem; padding: 1.5rem; }
h1 { margin: 0 0 .25rem; }
h2 { border-bottom: 1px solid var(--line); margin-top: 2.5rem; padding-bottom: .25rem; }
section { margin: 1.5rem 0; }
h3 { font: 600 1rem/1.5 ui-monospace, monospace; margin: 0; overflow-wrap: anywhere; }
.method { background: #06c; border-radius: .3rem; color: #fff; margin-right: .5rem;
  padding: .1rem .4rem; }
.get { background: #087443; }
table { border-collapse: collapse; display: block; overflow-x: auto; }
td { border-top: 1px solid var(--line); padding: .3rem 1rem .3rem 0; vertical-align: top; }
code, pre { background: var(--faint); border-radius: .3rem; font: .9rem ui-monospace, monospace; }
code { padding: .1rem .3rem; }
pre { overflow-x: auto; padding: .75rem; }
a { color: inherit; }
"""

_EXAMPLES = """\
curl --data-binary @cat.jpg 'localhost:8000/v1/classify?top_k=3'
curl -F file=@cat.jpg -F file=@dog.jpg localhost:8000/v1/classify
curl -H 'Authorization: Bearer TOKEN' --data-binary @cat.jpg localhost:8000/v1/classify
"""


def docs_routes(app: FastAPI, root_path: str) -> APIRouter:
    """The page and its style; links lead below `root_path`."""
    router = APIRouter(include_in_schema=False)

    @router.get("/docs")
    async def docs() -> Response:
        return send_page(_page(app.openapi(), root_path))

    @router.get("/docs.css")
    async def style() -> Response:
        return send_page(STYLE, "text/css")

    return router


def _page(description: dict[str, Any], root: str) -> str:
    by_tag: dict[str, list[str]] = {}
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            tag = (operation.get("tags") or ["more"])[0]
            by_tag.setdefault(tag, []).append(_operation(path, method, operation))
    parts = [f"<h2>{escape(tag)}</h2>{''.join(ops)}" for tag, ops in by_tag.items()]
    title = escape(description["info"]["title"])
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}: the API</title>'
        '<meta name="viewport" content="width=device-width">'
        '<link rel="icon" href="data:,"><link rel="stylesheet"'
        f' href="{root}/docs.css"><h1>{title}</h1>'
        f"<p>{escape(description['info']['description'])} For"
        f' programs: <a href="{root}/openapi.json">openapi.json</a>. The page:'
        f' <a href="{root}/">{root}/</a>.</p>'
        f"<pre>{escape(_EXAMPLES)}</pre><p>Every error is a JSON object"
        ' <code>{"error": {"code": ..., "message": ...}}</code>; below /v2 it is the protocol\'s'
        ' <code>{"error": "...", "code": "..."}</code>.</p>'
        f"{''.join(parts)}</html>"
    )


def _operation(path: str, method: str, operation: dict[str, Any]) -> str:
    rows = [
        (f"<code>{escape(p['name'])}</code>", escape(_of_parameter(p)))
        for p in operation.get("parameters", [])
    ]
    body = operation.get("requestBody", {}).get("content", {})
    if body:
        kinds = ", ".join(f"<code>{escape(kind)}</code>" for kind in body)
        rows.append(("body", kinds))
    for status, response in operation["responses"].items():
        text = response.get("description") or ""
        rows.append((f"<code>{escape(status)}</code>", escape(text)))
    cells = "".join(f"<tr><td>{name}<td>{text}" for name, text in rows)
    return (
        f'<section><h3><span class="method {method}">{method.upper()}</span>{escape(path)}</h3>'
        f"<p>{escape(operation.get('description', ''))}</p><table>{cells}</table></section>"
    )


def _of_parameter(parameter: dict[str, Any]) -> str:
    schema = parameter.get("schema", {})
    text = parameter.get("description") or schema.get("description") or ""
    default = schema.get("default")
    return f"{text} Default: {default}." if default is not None else text
