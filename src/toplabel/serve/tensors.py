"""Tensors of the Open Inference Protocol: JSON or binary in, arrays and byte strings out; and back.

A request's body is JSON; with the header Inference-Header-Content-Length the JSON has that many
bytes, and the tensors' bytes follow it, in order. Elements of BYTES are preceded by their length,
four bytes, least significant first.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from toplabel.serve.api_error import Refusal
from toplabel.serve.uploads import decode_base64, parse_json

if TYPE_CHECKING:
    from numpy.typing import NDArray

HEADER_LENGTH = "Inference-Header-Content-Length"
_TYPES = {"FP32": np.float32, "INT64": np.int64}
_LENGTH = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor: an array of numbers, or for BYTES an array of byte strings (dtype object)."""

    name: str
    datatype: str
    values: NDArray[Any]


def protocol_error(refusal: Refusal) -> bytes:
    """An error as the protocol has it: {"error": TEXT}; its clients fail on anything else."""
    return json.dumps({"error": refusal.message, "code": refusal.code}).encode()


def bad(message: str) -> Refusal:
    """The refusal of a request that is not as the protocol has it."""
    return Refusal(400, "bad_inference_request", message)


def split_body(body: bytes, header_length: str | None) -> tuple[dict[str, Any], bytes]:
    """The JSON of a request, and the bytes that follow it.

    Raises:
        Refusal: 400.
    """
    if header_length is None:
        return parse_json(body), b""
    if not (header_length.isascii() and header_length.isdigit()) or len(header_length) > 12:
        raise bad(f"{HEADER_LENGTH} is no number")
    length = int(header_length)
    if length > len(body):
        raise bad(f"{HEADER_LENGTH} is {length}; the body has {len(body)} bytes")
    return parse_json(body[:length]), body[length:]


def read_inputs(request: dict[str, Any], binary: bytes) -> list[Tensor]:
    """The input tensors of a request.

    Raises:
        Refusal: 400, one of them is not as it says it is.
    """
    given = request.get("inputs")
    if not isinstance(given, list) or not all(isinstance(one, dict) for one in given):
        raise bad("the field inputs is no list of tensors")
    tensors = []
    for one in given:
        parameters = one.get("parameters")
        size = parameters.get("binary_data_size") if isinstance(parameters, dict) else None
        if size is None:
            tensors.append(_of_json(one))
            continue
        if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size <= len(binary):
            raise bad(f"binary_data_size {size!r} is more than the {len(binary)} bytes there are")
        tensors.append(_of_binary(one, binary[:size]))
        binary = binary[size:]
    if binary:
        raise bad(f"{len(binary)} bytes are left after all tensors")
    return tensors


def _described(one: dict[str, Any]) -> tuple[str, str, list[int]]:
    name, datatype, shape = one.get("name"), one.get("datatype"), one.get("shape")
    if not isinstance(name, str) or not isinstance(datatype, str):
        raise bad("a tensor has no name or no datatype")
    if (
        not isinstance(shape, list)
        or not 1 <= len(shape) <= 8
        or not all(isinstance(n, int) and not isinstance(n, bool) and 0 < n < 2**31 for n in shape)
    ):
        raise bad("a tensor's shape is no list of whole numbers above 0")
    return name[:80], datatype, shape


def _of_binary(one: dict[str, Any], content: bytes) -> Tensor:
    name, datatype, shape = _described(one)
    if datatype == "BYTES":
        elements = _split_elements(content, most=prod(shape))
        return Tensor(name, datatype, _shaped(elements, shape))
    if datatype not in _TYPES:
        raise bad(f"tensor {name!r} has datatype {datatype[:20]!r}; expected BYTES or FP32")
    if len(content) != prod(shape) * np.dtype(_TYPES[datatype]).itemsize:
        raise bad(f"tensor {name!r} has {len(content)} bytes, which does not fit its shape {shape}")
    little = np.dtype(_TYPES[datatype]).newbyteorder("<")
    return Tensor(name, datatype, np.frombuffer(content, little).reshape(shape))


def _split_elements(content: bytes, *, most: int) -> list[bytes]:
    elements, place = [], 0
    while place < len(content):
        if place + _LENGTH.size > len(content):
            raise bad("a BYTES tensor ends within an element's length")
        (length,) = _LENGTH.unpack_from(content, place)
        place += _LENGTH.size
        if place + length > len(content):
            raise bad("a BYTES tensor ends within an element")
        elements.append(content[place : place + length])
        place += length
        if len(elements) > most:
            raise bad("a BYTES tensor has more elements than its shape")
    return elements


def _of_json(one: dict[str, Any]) -> Tensor:
    name, datatype, shape = _described(one)
    values = one.get("data")
    if not isinstance(values, list):
        raise bad(f"tensor {name!r} has neither data nor binary_data_size")
    if datatype == "BYTES":
        flat = _flat(values)
        if len(flat) != prod(shape):
            raise bad(f"tensor {name!r} has {len(flat)} elements, its shape {shape} others")
        elements = [decode_base64(value, f"an element of {name!r}") for value in flat]
        return Tensor(name, datatype, _shaped(elements, shape))
    if datatype not in _TYPES:
        raise bad(f"tensor {name!r} has datatype {datatype[:20]!r}; expected BYTES or FP32")
    try:
        array = np.asarray(values, dtype=_TYPES[datatype])
    except (TypeError, ValueError, OverflowError) as error:
        raise bad(f"the data of tensor {name!r} are no {datatype}") from error
    if array.size != prod(shape):
        raise bad(f"tensor {name!r} has {array.size} elements, its shape {shape} others")
    return Tensor(name, datatype, array.reshape(shape))


def _flat(values: list[Any]) -> list[Any]:
    flat = []
    for value in values:
        flat.extend(_flat(value) if isinstance(value, list) else [value])
    return flat


def _shaped(elements: list[bytes], shape: list[int]) -> NDArray[Any]:
    if len(elements) != prod(shape):
        raise bad(f"a BYTES tensor has {len(elements)} elements, its shape {shape} others")
    array = np.empty(len(elements), dtype=object)
    array[:] = elements
    return array.reshape(shape)


def encode_response(
    response: dict[str, Any], outputs: list[tuple[Tensor, bool]]
) -> tuple[bytes, dict[str, str]]:
    """A response's body and headers.

    Args:
        response: Its JSON without the outputs.
        outputs: Each tensor, and whether it goes in binary.
    """
    described, binary = [], []
    for tensor, as_binary in outputs:
        one: dict[str, Any] = {
            "name": tensor.name,
            "datatype": tensor.datatype,
            "shape": list(tensor.values.shape),
        }
        if as_binary:
            content = _to_binary(tensor)
            one["parameters"] = {"binary_data_size": len(content)}
            binary.append(content)
        else:
            one["data"] = _to_json(tensor)
        described.append(one)
    header = json.dumps({**response, "outputs": described}).encode()
    if not binary:
        return header, {"Content-Type": "application/json"}
    headers = {"Content-Type": "application/octet-stream", HEADER_LENGTH: str(len(header))}
    return b"".join((header, *binary)), headers


def _to_binary(tensor: Tensor) -> bytes:
    if tensor.datatype != "BYTES":
        return tensor.values.astype(tensor.values.dtype.newbyteorder("<")).tobytes()
    elements = tensor.values.reshape(-1)
    return b"".join(_LENGTH.pack(len(element)) + element for element in elements)


def _to_json(tensor: Tensor) -> list[Any]:
    flat = tensor.values.reshape(-1)
    if tensor.datatype == "BYTES":
        return [element.decode() for element in flat]
    return [float(f"{v:.9g}") for v in flat] if tensor.datatype == "FP32" else flat.tolist()
