"""The shapes of the Open Inference Protocol, for OpenAPI."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict


class ServerMetadataBody(BaseModel):
    """What a server is."""

    name: str
    version: str
    extensions: list[str]


class TensorMetadataBody(BaseModel):
    """What a tensor is."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadataBody(BaseModel):
    """What a model takes and gives; one of its inputs is given at a time."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadataBody]
    outputs: list[TensorMetadataBody]


class OutputBody(BaseModel):
    """One output tensor."""

    name: str
    datatype: str
    shape: list[int]
    data: list[Any]


class InferBody(BaseModel):
    """The answer; tensors that were asked for in binary follow the JSON."""

    model_config = ConfigDict(protected_namespaces=())

    model_name: str
    model_version: str
    id: str | None = None
    outputs: list[OutputBody]


_TENSOR: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"enum": ["image"]},
        "datatype": {"enum": ["BYTES"]},
        "shape": {"type": "array", "items": {"enum": [1]}, "minItems": 1, "maxItems": 1},
        "data": {
            "type": "array",
            "items": {"type": "string", "format": "picture-base64"},
            "minItems": 1,
            "maxItems": 1,
        },
    },
    "required": ["name", "datatype", "shape", "data"],
    "additionalProperties": False,
}

INFER_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "id": {"type": "string"},
                        "inputs": {
                            "type": "array",
                            "items": _TENSOR,
                            "minItems": 1,
                            "maxItems": 1,
                        },
                    },
                    "required": ["inputs"],
                }
            },
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        },
    }
}
