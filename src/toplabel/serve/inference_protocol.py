"""The Open Inference Protocol, version 2, as Triton, KServe and their clients speak it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from fastapi import APIRouter, Request, Response

from toplabel._version import __version__
from toplabel.serve.api_error import Refusal, told
from toplabel.serve.classify import as_json, facts
from toplabel.serve.health import check_ready
from toplabel.serve.inference_schemas import (
    INFER_BODY,
    InferBody,
    ModelMetadataBody,
    ServerMetadataBody,
)
from toplabel.serve.labelling import Wish
from toplabel.serve.openapi import errors
from toplabel.serve.service import Service, note, parse
from toplabel.serve.tensors import (
    HEADER_LENGTH,
    Tensor,
    bad,
    encode_response,
    read_inputs,
    split_body,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from toplabel.serve.models import ServedModel

VERSION = "1"
PICTURE, TENSOR = "image", "tensor"
DEFAULT_OUTPUTS = ("label", "index", "score")
OUTPUTS = {"label": "BYTES", "index": "INT64", "score": "FP32", "scores": "FP32", "logits": "FP32"}
"""Of each picture: its label, class index and score; the scores and logits of all classes."""

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
        check_ready(service)
        return as_json({"ready": True})

    # The lowest decorator makes the first route: a name may hold any path, so versions go first.
    @router.get("/v2/models/{name:path}/ready", responses=errors(401, 404, 503, protocol=True))
    @router.get("/v2/models/{name:path}/versions/{version}/ready", include_in_schema=False)
    async def model_ready(name: str, version: str = VERSION) -> Response:
        """200 where this model answers."""
        model = find(name, version)
        check_ready(service)
        return as_json({"name": model.name, "ready": True})

    @router.post(
        "/v2/models/{name:path}/infer",
        response_model=InferBody,
        responses=problems,
        openapi_extra=INFER_BODY,
    )
    @router.post("/v2/models/{name:path}/versions/{version}/infer", include_in_schema=False)
    async def infer(request: Request, name: str, version: str = VERSION) -> Response:
        """Labels of pictures (`image`, BYTES) or of prepared tensors (`tensor`, FP32)."""
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
            raise Refusal(404, "model_not_found", f"this model has the version {VERSION} only")
        return service.models.find(name)

    async def infer_logits(request: Request, model: ServedModel, inputs: list[Tensor]) -> Logits:
        if len(inputs) != 1 or inputs[0].name not in (PICTURE, TENSOR):
            raise bad(f"expected one input, {PICTURE!r} (BYTES) or {TENSOR!r} (FP32)")
        count = inputs[0].values.size if inputs[0].name == PICTURE else len(inputs[0].values)
        if count > service.limits.images:
            text = f"got {count} images; accepted are {service.limits.images} a request"
            raise Refusal(413, "too_many_images", text)
        note(request, model=model.name, images=count)
        if inputs[0].name == TENSOR:
            batch = _checked(inputs[0], model)
            _, (logits,) = await service.labelling.run(request, [lambda: model.engine(batch)])
            return _finite(list(logits))
        if inputs[0].datatype != "BYTES":
            raise bad(f"the input {PICTURE!r} is {inputs[0].datatype}; expected BYTES")
        contents = list(inputs[0].values.reshape(-1))
        labelled = await service.labelling.label(request, model, contents, Wish(top_k=1))
        note(request, **facts(labelled.answers))
        for place, answer in enumerate(labelled.answers):
            if (error := answer.prediction.error) is not None:
                refusal = Refusal.of_image(error)
                raise Refusal(refusal.status, error.code, f"image {place}: {told(error)}")
        every = [answer.prediction.logits for answer in labelled.answers]
        return [logits for logits in every if logits is not None]

    return router


class _Wanted:
    """One output that a request asks for."""

    def __init__(self, name: str, *, binary: bool, classes: int = 0) -> None:
        self.name = name
        self.binary = binary
        self.classes = classes


def _wanted(asked: dict[str, Any]) -> list[_Wanted]:
    """The outputs that a request asks for; by default label, index and score."""
    binary = bool(_parameters(asked).get("binary_data_output", False))
    given = asked.get("outputs") or [{"name": name} for name in DEFAULT_OUTPUTS]
    if not isinstance(given, list) or len(given) > len(OUTPUTS):
        raise bad("the field outputs is no list of output tensors")
    wanted = []
    for one in given:
        if not isinstance(one, dict) or one.get("name") not in OUTPUTS:
            raise bad(f"an output is none of {', '.join(OUTPUTS)}")
        parameters = _parameters(one)
        classes = parameters.get("classification", 0)
        if isinstance(classes, bool) or not isinstance(classes, int) or classes < 0:
            raise bad("the parameter classification is no number of classes")
        as_binary = bool(parameters.get("binary_data", binary))
        wanted.append(_Wanted(one["name"], binary=as_binary, classes=classes))
    return wanted


def _parameters(one: dict[str, Any]) -> dict[str, Any]:
    parameters = one.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise bad("the field parameters is no object")
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
    recipe = model.predictor.preprocess
    expected = (recipe.num_channels, *recipe.input_size)
    if tensor.datatype != "FP32" or tensor.values.shape[1:] != expected:
        raise bad(
            f"the input {TENSOR!r} is {tensor.datatype} of shape {list(tensor.values.shape)};"
            f" expected FP32 of shape [N, {', '.join(map(str, expected))}]"
        )
    return np.ascontiguousarray(tensor.values, np.float32)


def _finite(logits: Logits) -> Logits:
    if not all(np.isfinite(row).all() for row in logits):
        raise Refusal(422, "non_finite", "the model answered NaN or infinity for this tensor")
    return logits


def _metadata(model: ServedModel) -> dict[str, Any]:
    recipe = model.predictor.preprocess
    shape = [-1, recipe.num_channels, *recipe.input_size]
    classes = len(model.predictor.labels)
    shapes = {"scores": [-1, classes], "logits": [-1, classes]}
    return {
        "name": model.name,
        "versions": [VERSION],
        "platform": f"toplabel_{model.engine.name}",
        "inputs": [
            {"name": PICTURE, "datatype": "BYTES", "shape": [-1]},
            {"name": TENSOR, "datatype": "FP32", "shape": shape},
        ],
        "outputs": [
            {"name": name, "datatype": datatype, "shape": shapes.get(name, [-1])}
            for name, datatype in OUTPUTS.items()
        ],
    }
