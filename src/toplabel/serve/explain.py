"""`/v1/explain`: the evidence in an image for a label."""

from __future__ import annotations

import json
from functools import partial

from fastapi import APIRouter, Request, Response

from toplabel.analysis.explain.rendering import explain_upload
from toplabel.errors import ImageError, UsageError
from toplabel.serve.api_error import Refusal
from toplabel.serve.openapi import errors, picture_body
from toplabel.serve.schemas import Explain, ExplanationBody
from toplabel.serve.service import Service, note

_MEDIA_TYPES = {"png": "image/png", "json": "application/json"}


def explain_routes(service: Service) -> APIRouter:
    """The route."""
    router = APIRouter(tags=["toplabel"])

    @router.post(
        "/v1/explain",
        summary="Explain a label",
        response_model=ExplanationBody,
        responses={
            200: {"content": {"image/png": {"schema": {"type": "string", "format": "binary"}}}},
            **errors(400, 401, 403, 404, 408, 413, 415, 422, 431, 500, 503),
        },
        openapi_extra=picture_body(many=False),
    )
    async def explain(request: Request, query: Explain) -> Response:
        """The image under a heat map of the evidence for a label, or the map in numbers.

        From gradients where the server has PyTorch, captum and the network (`toplabel[explain]`),
        else by occlusion: a hundred forward passes instead of one.
        """
        model = service.models.find(query.model)
        async with service.uploads(request) as uploads:
            if len(uploads) != 1:
                raise Refusal(
                    422, "too_many_images", f"got {len(uploads)} images; expected one to explain"
                )
            work = partial(
                explain_upload,
                model.predictor.classifier,
                model.engine,
                uploads[0].content,
                label=query.label,
                format=query.format,
                read=model.read,
            )
            note(request, model=model.name, images=1)
            try:
                _, (rendered,) = await service.labelling.run(request, [work])
            except ImageError as error:
                raise Refusal.of_image(error) from error
            except UsageError as error:
                raise Refusal(422, "invalid_parameter", str(error)) from error
        return Response(
            rendered.content,
            media_type=_MEDIA_TYPES[query.format],
            headers={"X-Explanation": json.dumps(rendered.facts)},  # beside the image, too
        )

    return router
