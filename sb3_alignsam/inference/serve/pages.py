"""The web page and the description of the API: a few files of the package, read once."""

from __future__ import annotations

from importlib.resources import files

from fastapi import FastAPI, Response

PAGES = {
    "/": ("index.html", "text/html"),
    "/docs": ("docs.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
    "/masks.js": ("masks.js", "text/javascript"),
    "/docs.js": ("docs.js", "text/javascript"),
}
"""Each address with its file and type; there are no others, and no address names a file."""
HEADERS = {
    # Everything comes from this server; pictures that a person chooses are blobs.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' blob: data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def add_pages(app: FastAPI) -> None:
    """Serve them."""
    folder = files("sb3_alignsam.inference.serve") / "page"
    for address, (name, kind) in PAGES.items():
        _add_page(app, address, (folder / name).read_bytes(), kind)


def _add_page(app: FastAPI, address: str, content: bytes, kind: str) -> None:
    @app.get(address, include_in_schema=False)
    async def page() -> Response:
        return Response(content, media_type=kind, headers=HEADERS)
