"""`/v1/explain`: what in a picture spoke for a label.

The work is done by `toplabel.explaining`, where it is there: `explain_upload` takes a predictor and
the bytes of a picture file, and gives the bytes of a PNG or of a JSON object. It may raise
`ImageError` for the picture, `UsageError` for the label, and `MissingDependency`.
"""

from __future__ import annotations

from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Literal, Protocol, cast

from fastapi import APIRouter, Request, Response

from toplabel.errors import ImageError, MissingDependency, UsageError
from toplabel.image import ReadOptions
from toplabel.predictor import Predictor
from toplabel.serve.described import errors, picture_body
from toplabel.serve.refusals import Refusal
from toplabel.serve.schemas import Explain, ExplanationBody
from toplabel.serve.service import Service, note

MODULE = "toplabel.explaining"
FUNCTION = "explain_upload"
NEEDS = ("captum", "torch")
MISSING = "this server cannot explain; install it with pip install 'toplabel[explain]'"
_MEDIA_TYPES = {"png": "image/png", "json": "application/json"}

Format = Literal["png", "json"]


class ExplainUpload(Protocol):
    """What `toplabel.explaining` gives."""

    def __call__(
        self,
        predictor: Predictor,
        content: bytes,
        *,
        label: int | None,
        format: Format,
        read: ReadOptions,
    ) -> bytes:
        """The picture with a heat map over it as a PNG, or the map and what it is of as JSON."""
        ...


def can_explain() -> bool:
    """Whether this installation can; imports nothing of it."""
    return all(find_spec(name) is not None for name in (MODULE, *NEEDS))


def explain_routes(service: Service) -> APIRouter:
    """The route."""
    router = APIRouter(tags=["toplabel"])

    @router.post(
        "/v1/explain",
        summary="Explain a label",
        response_model=ExplanationBody,
        responses={
            200: {"content": {"image/png": {"schema": {"type": "string", "format": "binary"}}}},
            **errors(400, 401, 403, 404, 408, 413, 415, 422, 431, 500, 501, 503),
        },
        openapi_extra=picture_body(many=False),
    )
    async def explain(request: Request, query: Explain) -> Response:
        """The picture with a heat map of what spoke for a label, or the map in numbers."""
        model = service.models.find(query.model)
        explain_upload = _explain_upload()
        async with service.uploads(request) as uploads:
            if len(uploads) != 1:
                raise Refusal(
                    422, "too_many_images", f"got {len(uploads)} pictures; expected one to explain"
                )
            work = partial(
                explain_upload,
                model.predictor,
                uploads[0].content,
                label=query.label,
                format=query.format,
                read=model.read,
            )
            note(request, model=model.name, images=1)
            try:
                _, (content,) = await service.labelling.run(request, [work])
            except ImageError as error:
                raise Refusal.of_image(error) from error
            except UsageError as error:
                raise Refusal(422, "invalid_parameter", str(error)) from error
            except MissingDependency as error:
                raise Refusal(501, "not_installed", MISSING) from error
        return Response(content, media_type=_MEDIA_TYPES[query.format])

    return router


def _explain_upload() -> ExplainUpload:
    """The function that does it.

    Raises:
        Refusal: 501, it is not there.
    """
    if not can_explain():
        raise Refusal(501, "not_installed", MISSING)
    return cast(ExplainUpload, getattr(import_module(MODULE), FUNCTION))
