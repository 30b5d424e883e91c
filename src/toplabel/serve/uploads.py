"""Uploads: the pictures that a request brings, as bytes. None of its fields is ever a path."""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import dataclass
from typing import Any

from toplabel._internal.text import printable
from toplabel.serve.api_error import Refusal

_MAX_NAME = 255
_DATA_URL = re.compile(r"data:[\w.+/-]*(;[\w=.+-]*)*;base64,", re.ASCII)


@dataclass(frozen=True, slots=True)
class Upload:
    """One picture of a request.

    Args:
        name: What its record calls it: the file's name in a form, only to be shown.
        content: The bytes of a picture file.
    """

    name: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Link:
    """One picture that a request names by its URL."""

    url: str


def parse_json(body: bytes) -> dict[str, Any]:
    """A request's JSON object.

    Raises:
        Refusal: 400, it is none, or nested too deeply.
    """
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Refusal(400, "bad_json", "the body is no JSON that can be read") from error
    if not isinstance(value, dict):
        raise Refusal(400, "bad_json", f"the body is a JSON {_kind(value)}; expected an object")
    return value


def decode_base64(value: object, where: str) -> bytes:
    """The bytes that base64 text stands for; a data: URL of base64 is taken, too.

    Raises:
        Refusal: 422, it is no base64.
    """
    if not isinstance(value, str):
        raise Refusal(422, "bad_base64", f"{where} is {_kind(value)}; expected base64 as text")
    text = value
    if text.startswith("data:") and (prefix := _DATA_URL.match(text[:200])) is not None:
        text = text[prefix.end() :]
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Refusal(
            422, "bad_base64", f"{where} is no base64; expected a picture's bytes as base64"
        ) from error


def uploads_of_json(body: bytes, *, max_images: int) -> list[Upload | Link]:
    """The pictures of {"image": ...}, {"images": [...]}, {"url": ...} or {"urls": [...]}.

    Raises:
        Refusal: 400, 413 or 422.
    """
    value = parse_json(body)
    if unknown := sorted(set(value) - {"image", "images", "url", "urls"}):
        raise Refusal(
            422,
            "unknown_field",
            f"the body has the field {unknown[0][:40]!r}; expected image, images, url or urls",
        )
    if len(value) != 1:
        raise Refusal(
            422, "no_image", f"the body has {len(value)} fields; expected one: image or images"
        )
    ((key, given),) = value.items()
    if key in ("images", "urls"):
        if not isinstance(given, list) or not given:
            raise Refusal(422, "no_image", f"{key} is {_kind(given)}; expected a list of some")
        many = given
    else:
        many = [given]
    if len(many) > max_images:
        raise Refusal(
            413, "too_many_images", f"got {len(many)} images; accepted are {max_images} a request"
        )
    if key in ("url", "urls"):
        return [_link(one) for one in many]
    return [
        Upload(f"<image {place}>", decode_base64(one, f"image {place}"))
        for place, one in enumerate(many)
    ]


def shown_name(name: str, place: int) -> str:
    """What a record calls a picture: its file's name, made printable, or its place."""
    return printable(name)[:_MAX_NAME] or f"<image {place}>"


def _link(value: object) -> Link:
    if not isinstance(value, str):
        raise Refusal(422, "bad_url", f"the URL is {_kind(value)}; expected text")
    return Link(value)


def _kind(value: object) -> str:
    kinds = {dict: "an object", list: "a list", str: "text", bool: "true or false"}
    if value == []:
        return "an empty list"
    return "null" if value is None else kinds.get(type(value), "a number")
