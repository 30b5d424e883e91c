"""Described: the parts of the OpenAPI description that FastAPI cannot see in the code."""

from __future__ import annotations

from typing import Any

from toplabel.serve.schemas import ErrorBody, ProtocolError

_MEANINGS = {
    400: "The request cannot be read: bad JSON, a bad form, bad HTTP, an empty body.",
    401: "This server asks for a bearer token, and the request has none or another.",
    403: "The server fetches nothing from this host.",
    404: "No model here has this name.",
    405: "This method is not for this path; the header Allow names those that are.",
    408: "The client took too long to send the request.",
    413: "The body, the picture or the number of pictures is beyond the limit.",
    415: "This is no picture, or of a kind that is not read.",
    422: "A parameter, a field or the picture itself is not right.",
    431: "The headers are too large.",
    500: "A defect of the server.",
    501: "What this needs is not installed on the server.",
    503: "Too much to do, or not ready; the header Retry-After says when to try again.",
}

_PICTURE = {"type": "string", "format": "binary"}
_BASE64 = {"type": "string", "format": "picture-base64", "description": "A picture file, base64."}


def errors(*statuses: int, protocol: bool = False) -> dict[int | str, dict[str, Any]]:
    """The errors that a route may answer with; `protocol`: as the Open Inference Protocol's."""
    model = ProtocolError if protocol else ErrorBody
    return {status: {"model": model, "description": _MEANINGS[status]} for status in statuses}


def picture_body(*, many: bool) -> dict[str, Any]:
    """The body of a route that takes a picture in whatever way clients have it."""
    content: dict[str, Any] = {
        "application/octet-stream": {"schema": _PICTURE},
        "image/*": {"schema": _PICTURE},
    }
    if many:
        content["multipart/form-data"] = {
            "schema": {
                "type": "object",
                "properties": {"file": {"type": "array", "items": _PICTURE, "minItems": 1}},
                "required": ["file"],
            }
        }
        content["application/json"] = {"schema": _json_pictures()}
    return {"requestBody": {"required": True, "content": content}}


def json_body(schema: dict[str, Any], *, also_raw: bool = False) -> dict[str, Any]:
    """A body of JSON, or of the picture alone."""
    content: dict[str, Any] = {"application/json": {"schema": schema}}
    if also_raw:
        content["image/*"] = {"schema": _PICTURE}
        content["application/octet-stream"] = {"schema": _PICTURE}
    return {"requestBody": {"required": True, "content": content}}


def _json_pictures() -> dict[str, Any]:
    one = {
        "type": "object",
        "properties": {"image": _BASE64},
        "required": ["image"],
        "additionalProperties": False,
    }
    several = {
        "type": "object",
        "properties": {"images": {"type": "array", "items": _BASE64, "minItems": 1}},
        "required": ["images"],
        "additionalProperties": False,
    }
    return {"oneOf": [one, several]}


HUGGINGFACE_BODY = {
    "type": "object",
    "properties": {
        "inputs": _BASE64,
        "parameters": {
            "type": "object",
            "properties": {
                "top_k": {"type": "integer", "minimum": 1},
                "function_to_apply": {"enum": ["softmax", "sigmoid", "none"]},
            },
            "additionalProperties": False,
        },
    },
    "required": ["inputs"],
}
