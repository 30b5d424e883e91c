"""The Open Inference Protocol, version 2, as Triton, KServe and their clients speak it.

A request's body is JSON; with the header Inference-Header-Content-Length the JSON has that many
bytes, and the tensors' bytes follow it, in order. Elements of BYTES are preceded by their length,
four bytes, least significant first.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from toplabel._internal.text import ascii_json, written_out
from toplabel._version import __version__
from toplabel.inference.scoring import MULTI_LABEL_THRESHOLD
from toplabel.serve.api_error import ApiError, message_of
from toplabel.serve.openapi import (
    INFER_BODY,
    InferBody,
    ModelMetadataBody,
    ServerMetadataBody,
    errors,
)
from toplabel.serve.request_body import JsonLimits, decode_base64, parse, parse_json
from toplabel.serve.service import Service, as_json, failures, note, warning_headers
from toplabel.serve.work import Lane, RequestOptions

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from toplabel.serve.models import ServedModel

VERSION = "1"
IMAGE, TENSOR = "image", "tensor"
DEFAULT_OUTPUTS: tuple[Literal["label", "index", "score"], ...] = ("label", "index", "score")
OUTPUTS = {
    "label": "BYTES",
    "index": "INT64",
    "score": "FP32",
    "scores": "FP32",
    "logits": "FP32",
    "unknown": "BOOL",
}
"""Of each image: its label, class index and score; the scores and logits of all classes; whether it
is unlike all that the model was trained on, of models that can tell, among the default ones then.

Where no class of a multi-label model applies the label is empty, and the index -1.
"""

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
            asked, given = await parse(body, lambda: read_request(body, header_length))
            inferred = await infer_logits(request, model, given)
        response = {"model_name": model.name, "model_version": VERSION}
        if isinstance(asked.id, str):
            response["id"] = asked.id[:200]
        content, headers = encode_response(response, _outputs(asked, model, inferred))
        return Response(content, headers={**headers, **warning_headers(inferred.warnings)})

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

    async def infer_logits(request: Request, model: ServedModel, given: Tensor) -> Inferred:
        """What the model says of each image."""
        count = given.values.size if given.name == IMAGE else len(given.values)
        if count > service.options.max_images:
            text = f"got {count} images; expected at most {service.options.max_images} per request"
            raise ApiError(413, "too_many_images", text)
        note(request, model=model.name, images=count)
        if given.name == TENSOR:
            batch = _checked(given, model)
            lane: Lane = "ordinary" if len(batch) == 1 else "heavy"
            _, inferred = await service.labeller.run(
                request, [(partial(_infer, model, batch), lane)]
            )
            return inferred[0]
        if given.datatype != "BYTES":
            raise bad(f"the input {IMAGE!r} is {given.datatype}; expected BYTES")
        contents = list(given.values.reshape(-1))
        wanted = RequestOptions(top_k=1, reduced=False)  # of logits nobody could tell
        answers, _ = await service.labeller.label(request, model, contents, wanted)
        note(request, **failures(answers))
        for place, answer in enumerate(answers):
            if (error := answer.prediction.error) is not None:
                refusal = ApiError.of_image(error)
                raise ApiError(refusal.status, error.code, f"image {place}: {message_of(error)}")
        every = [answer.prediction for answer in answers]
        return Inferred(
            [one.logits for one in every if one.logits is not None],
            [one.unknown for one in every if one.unknown is not None],
            [text for one in every for text in one.warnings],
        )

    return router


@dataclass(frozen=True, slots=True)
class Inferred:
    """What a model says of N images: their logits, whether each is unknown, where it can tell, and
    what was assumed or noticed of the model and of them.
    """

    logits: Logits
    unknown: Sequence[bool]
    warnings: Sequence[str]


def _infer(model: ServedModel, batch: NDArray[np.float32]) -> Inferred:
    """What it says of prepared tensors."""
    detector, warnings = model.predictor.classifier.unknown, model.predictor.warnings
    if detector is None:
        return Inferred(_finite(list(model.engine(batch))), (), warnings)
    logits, features = model.engine.answer(batch)
    unknown = [detector.is_unknown(float(one)) for one in detector.distance(features)]
    return Inferred(_finite(list(logits)), unknown, warnings)


def _outputs(
    asked: InferRequest, model: ServedModel, inferred: Inferred
) -> list[tuple[Tensor, bool]]:
    """The tensors that a request asks for, and whether each goes in binary.

    Raises:
        ApiError: 400, the model does not tell unknown images.
    """
    classifier = model.predictor.classifier
    stacked = np.stack(inferred.logits)  # (N, K)
    scores = classifier.scores(stacked).astype(np.float32)
    best = stacked.argmax(axis=1)
    applies = np.full(len(best), True)
    if classifier.multi_label:  # "" and -1 where no class does
        applies = scores.max(axis=1) >= MULTI_LABEL_THRESHOLD
    values: dict[str, Any] = {
        "label": _texts(
            [classifier.labels[i] if a else "" for i, a in zip(best, applies, strict=True)]
        ),
        "index": np.where(applies, best, -1).astype(np.int64),
        "score": scores[np.arange(len(best)), best],
        "scores": scores,
        "logits": np.maximum(stacked, np.finfo(np.float32).min),  # JSON has no infinity
        "unknown": np.array(inferred.unknown, np.bool_),
    }
    found, default = [], [_Output(name=name) for name in DEFAULT_OUTPUTS]
    if classifier.unknown is not None:
        default.append(_Output(name="unknown"))
    for one in asked.outputs or default:
        if one.name == "unknown" and classifier.unknown is None:
            raise bad(f"{model.name} does not tell unknown images")
        parameters = one.parameters or _Parameters()
        tensor = Tensor(one.name, OUTPUTS[one.name], values[one.name])
        if parameters.classification and one.name in ("scores", "logits"):
            ranked = _ranked(values[one.name], classifier.labels, parameters.classification)
            tensor = Tensor(one.name, "BYTES", ranked)
        binary = parameters.binary_data
        if binary is None:
            binary = asked.parameters is not None and bool(asked.parameters.binary_data_output)
        found.append((tensor, binary))
    return found


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
    array[:] = [written_out(text).encode() for text in texts]
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
    if not all(np.isfinite(row.max()) for row in logits):
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
            if name != "unknown" or model.predictor.classifier.unknown is not None
        ],
    }


class _Parameters(BaseModel):
    """Those of a request, an input or an output."""

    model_config = ConfigDict(strict=True)

    binary_data_size: Annotated[int, Field(ge=0)] | None = None
    binary_data: bool | None = None
    binary_data_output: bool | None = None
    classification: Annotated[int, Field(ge=0)] = 0


class _Input(BaseModel):
    model_config = ConfigDict(strict=True)

    name: Literal["image", "tensor"]
    datatype: Literal["BYTES", "FP32", "INT64"]
    shape: Annotated[list[Annotated[int, Field(gt=0, lt=2**31)]], Field(min_length=1, max_length=8)]
    parameters: _Parameters | None = None
    data: list[Any] | None = None


class _Output(BaseModel):
    model_config = ConfigDict(strict=True)

    name: Literal["label", "index", "score", "scores", "logits", "unknown"]
    parameters: _Parameters | None = None


class InferRequest(BaseModel):
    """A request's JSON; by default it asks for label, index and score."""

    id: Any = None
    inputs: Annotated[list[_Input], Field(min_length=1, max_length=1)]
    outputs: Annotated[list[_Output], Field(max_length=len(OUTPUTS))] | None = None
    parameters: _Parameters | None = None


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor: an array of numbers, or for BYTES an array of byte strings (dtype object)."""

    name: str
    datatype: str
    values: NDArray[Any]


def protocol_error(refusal: ApiError) -> bytes:
    """An error as the protocol has it: {"error": TEXT}; its clients fail on anything else."""
    return ascii_json({"error": refusal.message, "code": refusal.code}).encode()


def bad(message: str) -> ApiError:
    """The error of a request that does not follow the protocol."""
    return ApiError(400, "bad_inference_request", message)


_JSON = JsonLimits(names=10_000, values=1_000_000, lists=200_000)
"""Tensors may stand in it as numbers: some images of 224 x 224 x 3 at once."""


def read_request(body: bytes, header_length: str | None) -> tuple[InferRequest, Tensor]:
    """What a request asks for, and its input.

    Raises:
        ApiError: 400, it does not follow the protocol.
    """
    length = len(body)
    if header_length is not None:
        if not (header_length.isascii() and header_length.isdigit()) or len(header_length) > 12:
            raise bad(f"{HEADER_LENGTH} must be a number")
        length = int(header_length)
        if length > len(body):
            raise bad(f"{HEADER_LENGTH} is {length}; the body has {len(body)} bytes")
    try:
        asked = InferRequest.model_validate(parse_json(body[:length], _JSON))
        return asked, _read_tensor(asked.inputs[0], body[length:])
    except ValidationError as error:
        first = error.errors()[0]
        raise bad(f"{'.'.join(map(str, first['loc']))[:80]}: {first['msg']}") from error
    except RecursionError as error:
        raise bad("the data are nested too deeply") from error


def _read_tensor(given: _Input, binary: bytes) -> Tensor:
    name, datatype, count = given.name, given.datatype, prod(given.shape)
    size = None if given.parameters is None else given.parameters.binary_data_size
    if (size or 0) != len(binary):
        raise bad(f"tensor {name!r} has {size or 0} bytes; {len(binary)} follow the JSON")
    if size is None and given.data is None:
        raise bad(f"tensor {name!r} has neither data nor binary_data_size")
    values: Any
    if datatype == "BYTES":
        elements = _flat(given.data or []) if size is None else _split(binary, most=count)
        values = np.empty(len(elements), dtype=object)
        values[:] = [
            one if isinstance(one, bytes) else decode_base64(one, f"an element of {name!r}")
            for one in elements
        ]
    else:
        try:
            kind = np.dtype(_TYPES[datatype])
            values = (
                np.asarray(given.data, kind)
                if size is None
                else np.frombuffer(binary, kind.newbyteorder("<"))
            )
        except (TypeError, ValueError, OverflowError) as error:
            raise bad(f"the data of tensor {name!r} are not {datatype}") from error
    if values.size != count:
        raise bad(f"tensor {name!r} has {values.size} elements; its shape is {given.shape}")
    return Tensor(name, datatype, values.reshape(given.shape))


def _split(content: bytes, *, most: int) -> list[bytes]:
    elements: list[bytes] = []
    place = 0
    while place < len(content):
        if len(elements) == most:
            raise bad("a BYTES tensor has more elements than its shape")
        start = place + _LENGTH.size
        if start > len(content):
            raise bad("a BYTES tensor ends within an element's length")
        place = start + _LENGTH.unpack_from(content, place)[0]
        if place > len(content):
            raise bad("a BYTES tensor ends within an element")
        elements.append(content[start:place])
    return elements


def _flat(values: list[Any]) -> list[Any]:
    flat = []
    for value in values:
        flat.extend(_flat(value) if isinstance(value, list) else [value])
    return flat


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
    header = ascii_json({**response, "outputs": described}).encode()
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
