"""`/docs`: the API for people, made from OpenAPI's description; all of it comes from here."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from html import escape
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response

from toplabel.serve.page import send_page

STYLE = """\
:root { color-scheme: light dark; --line: #8884; --faint: #8882; }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 60rem;
  overflow-wrap: anywhere; padding: 1.5rem; }
h1 { margin: 0 0 .25rem; }
h2 { border-bottom: 1px solid var(--line); margin-top: 2.5rem; padding-bottom: .25rem; }
section { margin: 1.5rem 0; }
h3 { font: 600 1rem/1.5 ui-monospace, monospace; margin: 0; overflow-wrap: anywhere; }
.method { background: #06c; border-radius: .3rem; color: #fff; margin-right: .5rem;
  padding: .1rem .4rem; }
.get { background: #087443; }
nav ul { list-style: none; padding: 0; }
nav a { display: inline-block; font: .9rem/1.9 ui-monospace, monospace; }
table { border-collapse: collapse; display: block; overflow-x: auto; }
td { border-top: 1px solid var(--line); padding: .3rem 1rem .3rem 0; vertical-align: top; }
td:first-child { white-space: nowrap; }
summary { cursor: pointer; padding: .3rem 0; }
code, pre { background: var(--faint); border-radius: .3rem; font: .9rem ui-monospace, monospace; }
code { padding: .1rem .3rem; }
pre { overflow-x: auto; padding: .75rem; }
a { color: inherit; }
form { display: flex; flex-wrap: wrap; gap: .75rem; align-items: end; }
label { display: grid; gap: .25rem; }
input, button { font: inherit; max-width: 100%; padding: .3rem .5rem; }
:focus-visible { outline: 3px solid #4a90d9; outline-offset: 2px; }
"""

_CURL = """\
curl --data-binary @cat.jpg '{address}/v1/classify?top_k=3'
curl -F file=@cat.jpg -F file=@dog.jpg {address}/v1/classify
curl -H 'Content-Type: application/json' -d '{{"image": "BASE64"}}' {address}/v1/classify
curl -H 'Authorization: Bearer TOKEN' --data-binary @cat.jpg {address}/v1/classify
"""

_PYTHON = """\
import json
from urllib.request import Request, urlopen

photo = open("cat.jpg", "rb").read()
with urlopen(Request("{address}/v1/classify?top_k=3", data=photo)) as answer:
    print(json.load(answer)["predictions"][0]["label"])
"""

_JAVASCRIPT = """\
const [file] = document.querySelector("input[type=file]").files;
const answer = await fetch("{address}/v1/classify?top_k=3", {{method: "POST", body: file}});
const {{predictions, error}} = await answer.json();
console.log(error ? error.message : predictions[0].label);
"""

_TRY = """\
<label>Image <input type="file" name="file" accept="image/*" required></label>
<label>Classes <input type="number" name="top_k" value="3" min="1" size="4"></label>
<label>Token, where one is set <input type="password" name="token" autocomplete="off"></label>
<button>POST /v1/classify</button></form><pre id="answer" aria-live="polite" hidden></pre>
"""

SCRIPT = """\
const form = document.getElementById("try"), shown = document.getElementById("answer");
form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const {file, top_k: count, token} = form.elements;
  const headers = token.value ? {Authorization: `Bearer ${token.value}`} : {};
  const asked = {method: "POST", body: file.files[0], headers};
  shown.hidden = false;
  shown.textContent = "...";
  try {
    const answer = await fetch(`${form.dataset.root}/v1/classify?top_k=${count.value}`, asked);
    const text = JSON.stringify(await answer.json(), null, 2);
    shown.textContent = `${answer.status} ${answer.statusText}\\n${text}`;
  } catch (error) {
    shown.textContent = String(error);
  }
});
"""


def docs_routes(app: FastAPI, root_path: str) -> APIRouter:
    """The page and its style; links lead below `root_path`."""
    router = APIRouter(include_in_schema=False)

    @router.get("/docs")
    async def docs(request: Request) -> Response:
        address = str(request.base_url.replace(path=root_path)).rstrip("/")
        return send_page(_page(app.openapi(), root_path, address))

    @router.get("/docs.css")
    async def style() -> Response:
        return send_page(STYLE, "text/css")

    @router.get("/docs.js")
    async def script() -> Response:
        return send_page(SCRIPT, "text/javascript")

    return router


def _page(description: dict[str, Any], root: str, address: str) -> str:
    """The page; `address` is where the reader has reached the server."""
    by_tag: dict[str, list[str]] = {}
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            tag = (operation.get("tags") or ["more"])[0]
            by_tag.setdefault(tag, []).append(_operation(path, method, operation))
    contents = "".join(
        f'<li><a href="#{_anchor(path, method)}">{method.upper()} {escape(path)}</a>'
        f" {escape(operation.get('summary', ''))}"
        for path, methods in description["paths"].items()
        for method, operation in methods.items()
    )
    parts = [f"<h2>{escape(tag)}</h2>{''.join(ops)}" for tag, ops in by_tag.items()]
    title = escape(description["info"]["title"])
    snippets = "".join(
        f"<h3>{name}</h3><pre>{escape(text.format(address=address))}</pre>"
        for name, text in (("curl", _CURL), ("Python", _PYTHON), ("JavaScript", _JAVASCRIPT))
    )
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}: the API</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<link rel="icon" href="data:,"><link rel="stylesheet"'
        f' href="{root}/docs.css"><script src="{root}/docs.js" defer></script><main>'
        f"<h1>{title}</h1>"
        f"<p>{escape(description['info']['description'])} For"
        f' programs: <a href="{root}/openapi.json">openapi.json</a>. The page:'
        f' <a href="{root}/">{root}/</a>.</p>'
        f'<nav aria-label="Requests"><ul>{contents}</ul></nav>'
        f'<h2>Try it</h2><form id="try" data-root="{root}">{_TRY}'
        f"<h2>Examples</h2>{snippets}<p>Every error is a JSON object"
        ' <code>{"error": {"code": ..., "message": ...}}</code>; below /v2 it is the protocol\'s'
        ' <code>{"error": "...", "code": "..."}</code>.</p>'
        f"{''.join(parts)}<h2>Objects</h2>{_objects(description)}</main></html>"
    )


def _operation(path: str, method: str, operation: dict[str, Any]) -> str:
    rows = [
        (f"<code>{escape(p['name'])}</code>", _words(_of_parameter(p)))
        for p in operation.get("parameters", [])
    ]
    body = operation.get("requestBody", {}).get("content", {})
    if body:
        kinds = ", ".join(f"<code>{escape(kind)}</code>" for kind in body)
        rows.append(("body", kinds))
    errors: list[tuple[str, str]] = []
    for status, response in operation["responses"].items():
        text = _words(response.get("description") or "").rstrip(".")
        code = f"<code>{escape(status)}</code>"
        if status < "400":
            rows.append((code, _of_content(response.get("content", {}))))
        else:
            errors.append((code, text))
    more = f"<details><summary>Errors</summary>{_table(errors)}</details>" if errors else ""
    return (
        f'<section id="{_anchor(path, method)}"><h3><span class="method {method}">'
        f"{method.upper()}</span>{escape(path)}</h3>"
        f"<p>{_words(operation.get('description', ''))}</p>{_table(rows)}{more}</section>"
    )


def _anchor(path: str, method: str) -> str:
    return escape(f"{method}{path}")


def _of_content(content: dict[str, Any]) -> str:
    """What an answer is: its object where it is JSON, else its media type."""
    kinds = []
    for media_type, given in content.items():
        found = _type(given.get("schema", {})) if media_type == "application/json" else ""
        kinds.append(found or f"<code>{escape(media_type)}</code>")
    return " or ".join(kinds)


def _table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of HTML."""
    lines = "".join(f"<tr>{''.join(f'<td>{cell}' for cell in row)}" for row in rows)
    return f"<table>{lines}</table>"


def _words(text: str) -> str:
    """Text as HTML; what stands between backticks is code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text, quote=False))


def _of_parameter(parameter: dict[str, Any]) -> str:
    schema = parameter.get("schema", {})
    text = parameter.get("description") or schema.get("description") or ""
    given = [one for one in schema.get("anyOf", [schema]) if one.get("type") != "null"]
    kind = " or ".join(_type(one) for one in given)
    default = schema.get("default")
    shown = default if isinstance(default, str) else json.dumps(default)
    after = "" if default is None else f" Default: `{shown}`."
    return f"{kind}: {text}{after}" if text else f"{kind}{after}"


def _objects(description: dict[str, Any]) -> str:
    """A table of fields for each object that an answer holds."""
    parts = []
    for name, schema in description.get("components", {}).get("schemas", {}).items():
        required = schema.get("required", ())
        rows = [
            (
                f"<code>{escape(field)}</code>",
                _type(one) + ("" if field in required else ", may be absent"),
                _words(one.get("description", "")),
            )
            for field, one in schema.get("properties", {}).items()
        ]
        parts.append(
            f'<section id="{escape(name)}"><h3>{escape(name)}</h3>'
            f"<p>{_words(schema.get('description', ''))}</p>{_table(rows)}</section>"
        )
    return "".join(parts)


def _type(schema: dict[str, Any]) -> str:
    """A field's type in words, with a link to an object."""
    if reference := schema.get("$ref"):
        name = escape(reference.rpartition("/")[2])
        return f'<a href="#{name}">{name}</a>'
    if choices := schema.get("anyOf") or schema.get("oneOf"):
        return " or ".join(_type(one) for one in choices)
    if "const" in schema or "enum" in schema:
        return " or ".join(escape(str(one)) for one in schema.get("enum", [schema.get("const")]))
    kind = schema.get("type", "")
    if kind == "array":
        return f"list of {_type(schema.get('items', {})) or 'values'}"
    return escape(str(kind))
