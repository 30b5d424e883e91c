"""The Open Inference Protocol, version 2, as Triton, KServe and their clients speak it.

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
from fastapi import APIRouter, Request, Response

from toplabel._version import __version__
from toplabel.serve.api_error import ApiError, message_of
from toplabel.serve.openapi import (
    INFER_BODY,
    InferBody,
    ModelMetadataBody,
    ServerMetadataBody,
    errors,
)
from toplabel.serve.request_body import decode_base64, parse, parse_json
from toplabel.serve.service import Service, as_json, failures, note
from toplabel.serve.work import RequestOptions

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from toplabel.serve.models import ServedModel

VERSION = "1"
IMAGE, TENSOR = "image", "tensor"
DEFAULT_OUTPUTS = ("label", "index", "score")
OUTPUTS = {"label": "BYTES", "index": "INT64", "score": "FP32", "scores": "FP32", "logits": "FP32"}
"""Of each image: its label, class index and score; the scores and logits of all classes."""

HEADER_LENGTH = "Inference-Header-Content-Length"
_TYPES = {"FP32": np.float32, "INT64": np.int64}
_LENGTH = struct.Struct("<I")

Logits = list["NDArray[np.float32]"]


def is_protocol_path(path: str) -> bool:
    """Whether errors here have the protocol's form."""
    return path == "/v2" or path.startswith("/v2/")


def inference_protocol_routes(service: Service) -> APIRouter:
    """The routes."""
    router = APIRouter(tags=["Open Inference Protocol"])
    problems = errors(400, 401, 404, 408, 413, 415, 422, 431, 500, 503, protocol=True)

    @router.get("/v2", response_model=ServerMetadataBody, responses=errors(401, protocol=True))
    async def server() -> Response:
        """What this server is."""
        extensions = ["binary_tensor_data", "classification"]
        return as_json({"name": "toplabel", "version": __version__, "extensions": extensions})

    @router.get("/v2/health/live")
    async def live() -> Response:
        """200 as long as the process answers."""
        return as_json({"live": True})

    @router.get("/v2/health/ready", responses=errors(503, protocol=True))
    async def ready() -> Response:
        """200 where requests should come here."""
        service.check_ready()
        return as_json({"ready": True})

    # The lowest decorator makes the first route: a name may hold any path, so versions go first.
    @router.get("/v2/models/{name:path}/ready", responses=errors(401, 404, 503, protocol=True))
    @router.get("/v2/models/{name:path}/versions/{version}/ready", include_in_schema=False)
    async def model_ready(name: str, version: str = VERSION) -> Response:
        """200 where this model answers."""
        model = find(name, version)
        service.check_ready()
        return as_json({"name": model.name, "ready": True})

    @router.post(
        "/v2/models/{name:path}/infer",
        response_model=InferBody,
        responses=problems,
        openapi_extra=INFER_BODY,
    )
    @router.post("/v2/models/{name:path}/versions/{version}/infer", include_in_schema=False)
    async def infer(request: Request, name: str, version: str = VERSION) -> Response:
        """Labels of images (`image`, BYTES) or of prepared tensors (`tensor`, FP32)."""
        model = find(name, version)
        header_length = request.headers.get(HEADER_LENGTH)
        async with service.bodies.read(request) as body:

            def read() -> tuple[dict[str, Any], list[Tensor]]:
                asked, binary = split_body(body, header_length)
                return asked, read_inputs(asked, binary)

            asked, inputs = await parse(body, read)
            wanted = _wanted(asked)
            logits = await infer_logits(request, model, inputs)
        outputs = [(_output(o, model, logits), o.binary) for o in wanted]
        response = {"model_name": model.name, "model_version": VERSION}
        if isinstance(asked.get("id"), str):
            response["id"] = asked["id"][:200]
        content, headers = encode_response(response, outputs)
        return Response(content, headers=headers)

    @router.get(
        "/v2/models/{name:path}",
        response_model=ModelMetadataBody,
        responses=errors(401, 404, protocol=True),
    )
    @router.get("/v2/models/{name:path}/versions/{version}", include_in_schema=False)
    async def metadata(name: str, version: str = VERSION) -> Response:
        """What a model takes and gives."""
        return as_json(_metadata(find(name, version)))

    def find(name: str, version: str) -> ServedModel:
        if version != VERSION:
            raise ApiError(404, "model_not_found", f"this model has the version {VERSION} only")
        return service.models.find(name)

    async def infer_logits(request: Request, model: ServedModel, inputs: list[Tensor]) -> Logits:
        if len(inputs) != 1 or inputs[0].name not in (IMAGE, TENSOR):
            raise bad(f"expected one input, {IMAGE!r} (BYTES) or {TENSOR!r} (FP32)")
        count = inputs[0].values.size if inputs[0].name == IMAGE else len(inputs[0].values)
        if count > service.options.max_images:
            text = f"got {count} images; expected at most {service.options.max_images} per request"
            raise ApiError(413, "too_many_images", text)
        note(request, model=model.name, images=count)
        if inputs[0].name == TENSOR:
            batch = _checked(inputs[0], model)
            _, (logits,) = await service.labeller.run(request, [lambda: model.engine(batch)])
            return _finite(list(logits))
        if inputs[0].datatype != "BYTES":
            raise bad(f"the input {IMAGE!r} is {inputs[0].datatype}; expected BYTES")
        contents = list(inputs[0].values.reshape(-1))
        labelled = await service.labeller.label(request, model, contents, RequestOptions(top_k=1))
        note(request, **failures(labelled.answers))
        for place, answer in enumerate(labelled.answers):
            if (error := answer.prediction.error) is not None:
                refusal = ApiError.of_image(error)
                raise ApiError(refusal.status, error.code, f"image {place}: {message_of(error)}")
        every = [answer.prediction.logits for answer in labelled.answers]
        return [logits for logits in every if logits is not None]

    return router


@dataclass(frozen=True, slots=True)
class _Wanted:
    """One output that a request asks for; `classes`: the best so many of each row, as text."""

    name: str
    binary: bool
    classes: int = 0


def _wanted(asked: dict[str, Any]) -> list[_Wanted]:
    """The outputs that a request asks for; by default label, index and score."""
    binary = bool(_parameters(asked).get("binary_data_output", False))
    given = asked.get("outputs") or [{"name": name} for name in DEFAULT_OUTPUTS]
    if not isinstance(given, list) or len(given) > len(OUTPUTS):
        raise bad("outputs must be a list of output tensors")
    wanted = []
    for one in given:
        if not isinstance(one, dict) or one.get("name") not in OUTPUTS:
            raise bad(f"an output must be one of {', '.join(OUTPUTS)}")
        parameters = _parameters(one)
        classes = parameters.get("classification", 0)
        if isinstance(classes, bool) or not isinstance(classes, int) or classes < 0:
            raise bad("the parameter classification must be a number of classes")
        as_binary = bool(parameters.get("binary_data", binary))
        wanted.append(_Wanted(one["name"], as_binary, classes))
    return wanted


def _parameters(one: dict[str, Any]) -> dict[str, Any]:
    parameters = one.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise bad("parameters must be an object")
    return parameters


def _output(wanted: _Wanted, model: ServedModel, logits: Logits) -> Tensor:
    classifier = model.predictor.classifier
    stacked = np.stack(logits)  # (N, K)
    scores = classifier.scores(stacked).astype(np.float32)
    best = stacked.argmax(axis=1)
    if wanted.classes and wanted.name in ("scores", "logits"):
        values = scores if wanted.name == "scores" else stacked
        return Tensor(wanted.name, "BYTES", _ranked(values, classifier.labels, wanted.classes))
    rows = np.arange(len(best))
    arrays: dict[str, Any] = {
        "label": _texts([classifier.labels[int(index)] for index in best]),
        "index": best.astype(np.int64),
        "score": scores[rows, best],
        "scores": scores,
        "logits": stacked,
    }
    return Tensor(wanted.name, OUTPUTS[wanted.name], arrays[wanted.name])


def _ranked(values: NDArray[np.float32], labels: Any, classes: int) -> NDArray[Any]:
    """Triton's classification extension: "SCORE:INDEX:LABEL" of the best, (N, classes)."""
    order = np.argsort(-values, axis=1, kind="stable")[:, :classes]
    texts = [
        f"{row[i]:f}:{i}:{labels[int(i)]}"
        for row, best in zip(values, order, strict=True)
        for i in best
    ]
    return _texts(texts).reshape(order.shape)


def _texts(texts: list[str]) -> NDArray[Any]:
    array = np.empty(len(texts), dtype=object)
    array[:] = [text.encode() for text in texts]
    return array


def _checked(tensor: Tensor, model: ServedModel) -> NDArray[np.float32]:
    preprocess = model.predictor.preprocess
    expected = (preprocess.num_channels, *preprocess.input_size)
    if tensor.datatype != "FP32" or tensor.values.shape[1:] != expected:
        raise bad(
            f"the input {TENSOR!r} is {tensor.datatype} of shape {list(tensor.values.shape)};"
            f" expected FP32 of shape [N, {', '.join(map(str, expected))}]"
        )
    return np.ascontiguousarray(tensor.values, np.float32)


def _finite(logits: Logits) -> Logits:
    if not all(np.isfinite(row).all() for row in logits):
        raise ApiError(422, "non_finite", "the model answered NaN or infinity for this tensor")
    return logits


def _metadata(model: ServedModel) -> dict[str, Any]:
    preprocess = model.predictor.preprocess
    shape = [-1, preprocess.num_channels, *preprocess.input_size]
    classes = len(model.predictor.labels)
    shapes = {"scores": [-1, classes], "logits": [-1, classes]}
    return {
        "name": model.name,
        "versions": [VERSION],
        "platform": f"toplabel_{model.engine.name}",
        "inputs": [
            {"name": IMAGE, "datatype": "BYTES", "shape": [-1]},
            {"name": TENSOR, "datatype": "FP32", "shape": shape},
        ],
        "outputs": [
            {"name": name, "datatype": datatype, "shape": shapes.get(name, [-1])}
            for name, datatype in OUTPUTS.items()
        ],
    }


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor: an array of numbers, or for BYTES an array of byte strings (dtype object)."""

    name: str
    datatype: str
    values: NDArray[Any]


def protocol_error(refusal: ApiError) -> bytes:
    """An error as the protocol has it: {"error": TEXT}; its clients fail on anything else."""
    return json.dumps({"error": refusal.message, "code": refusal.code}).encode()


def bad(message: str) -> ApiError:
    """The error of a request that does not follow the protocol."""
    return ApiError(400, "bad_inference_request", message)


def split_body(body: bytes, header_length: str | None) -> tuple[dict[str, Any], bytes]:
    """The JSON of a request, and the bytes that follow it.

    Raises:
        ApiError: 400.
    """
    if header_length is None:
        return parse_json(body), b""
    if not (header_length.isascii() and header_length.isdigit()) or len(header_length) > 12:
        raise bad(f"{HEADER_LENGTH} must be a number")
    length = int(header_length)
    if length > len(body):
        raise bad(f"{HEADER_LENGTH} is {length}; the body has {len(body)} bytes")
    return parse_json(body[:length]), body[length:]


def read_inputs(request: dict[str, Any], binary: bytes) -> list[Tensor]:
    """The input tensors of a request.

    Raises:
        ApiError: 400, one of them does not match its own description.
    """
    given = request.get("inputs")
    if not isinstance(given, list) or not all(isinstance(one, dict) for one in given):
        raise bad("inputs must be a list of tensors")
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
        raise bad("a tensor's shape must be a list of positive integers")
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
