"""The page at `/` and its files, under a policy that lets it talk to nobody but this server."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter, Response

from toplabel.runs.report.report import palette

FILES = {
    "/": ("index.html", "text/html"),
    "/page/page.css": ("page.css", "text/css"),
    **{
        f"/page/{name}.js": (f"{name}.js", "text/javascript")
        for name in ("page", "card", "api", "copying")
    },
}
"""What is served, by path; nothing else of the folder is."""

PALETTE = "/page/palette.css"
"""The colours, which the report's page has, too."""

PATHS = (*FILES, PALETTE)

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:;"
    " connect-src 'self'; media-src 'self' blob:; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Frame-Options": "DENY",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",
}

_FOLDER = Path(__file__).parent / "page"


def page_routes(root_path: str) -> APIRouter:
    """The routes, outside of the API's description; links lead below `root_path`."""
    router = APIRouter(include_in_schema=False)
    for path, (name, media_type) in FILES.items():
        content = (_FOLDER / name).read_bytes()
        if media_type == "text/html":
            content = content.replace(b'="/', f'="{root_path}/'.encode())
        router.add_api_route(path, _sender(content, media_type), methods=["GET"])
    router.add_api_route(PALETTE, _sender(palette().encode(), "text/css"), methods=["GET"])
    return router


def send_page(content: bytes | str, media_type: str = "text/html") -> Response:
    """Something for a browser, with the headers that keep it to itself."""
    return Response(content, media_type=media_type, headers=HEADERS)


def _sender(content: bytes, media_type: str):  # type: ignore[no-untyped-def]
    async def send() -> Response:
        return send_page(content, media_type)

    return send
