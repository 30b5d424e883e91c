"""The description of the API is complete and true: schemathesis against a real server."""

import base64
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings, strategies as st
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from serving import CAT, Server, serving

NAME = "efficientnet_lite0"
ERROR_STATUSES = {"400", "401", "404", "408", "413", "415", "422", "431", "503"}
IMAGES = st.sampled_from([CAT, CAT[:900], b"no image", b""])

schemathesis.openapi.format(
    "image-base64", IMAGES.map(lambda content: base64.b64encode(content).decode())
)
for media_type in ("image/*", "application/octet-stream"):
    schemathesis.openapi.media_type(media_type, IMAGES)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving(
        *("--no-access-log", "--max-body", "300000", "--request-timeout", "300"),
        *("--header-timeout", "300", "--body-timeout", "300"),
    ) as running:
        yield running


@pytest.fixture(scope="module")
def api(server: Server) -> Any:
    return schemathesis.openapi.from_url(f"{server.url}/openapi.json")


def test_every_route_for_images_documents_its_errors(server: Server):
    described = server.ask("GET", "/openapi.json").json
    for path in ("/v1/classify", "/models/{name}", "/", "/v2/models/{name}/infer", "/v1/explain"):
        assert set(described["paths"][path]["post"]["responses"]) >= ERROR_STATUSES
    listed = {p for p in described["paths"] if not p.startswith(("/v2", "/models"))}
    assert listed == {
        *("/v1/classify", "/v1/models", "/v1/models/{name}/labels", "/v1/explain", "/"),
        *("/health/live", "/health/ready", "/metrics"),
    }


def conform(api: Any, examples: int) -> None:
    @settings(
        max_examples=examples,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def check(case: Any) -> None:
        if "name" in case.path_parameters and len(str(case.path_parameters["name"])) % 2:
            case.path_parameters["name"] = NAME
        response = case.call(timeout=400)
        assert response.status_code != 500
        case.validate_response(
            response,
            checks=[
                status_code_conformance,
                content_type_conformance,
                response_headers_conformance,
                response_schema_conformance,
                unsupported_method,
                negative_data_rejection,
            ],
        )

    for result in api.get_all_operations():
        operation = result.ok()
        strategy = operation.as_strategy()
        given(case=strategy)(check)()


def test_what_the_server_does_is_what_it_describes(api: Any):
    conform(api, 8)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_what_the_server_does_is_what_it_describes_at_length(api: Any):
    conform(api, 250)
