"""The API of a real server, over real sockets."""

import base64
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

import toplabel
from serving import CAT, ROOT, Server, form, head, serving, wait_until
from toplabel.serve.options import ServeOptions

COFFEE = (ROOT / "examples" / "coffee.jpg").read_bytes()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


def record_of(content: bytes, source: str, **options: object) -> dict[str, object]:
    """The record that the library gives."""
    return {**toplabel.load()(content, **options).to_dict(), "source": source}


def test_raw_bytes_get_the_record_that_the_library_gives(server: Server):
    reply = server.classify(CAT, "?top_k=3")
    assert reply.status == 200
    assert reply.json["predictions"] == [record_of(CAT, "<image 0>", top_k=3)]
    model = reply.json["model"]
    assert model["name"].startswith("embedded/efficientnet_lite0@")
    assert model["sha256"].startswith(model["name"].partition("@")[2])
    assert len(model["sha256"]) == 64
    assert set(reply.json["timings_ms"]) == {"queue", "read", "model", "total"}
    assert reply.json["timings_ms"]["total"] >= reply.json["timings_ms"]["model"] > 0


def test_curls_data_binary_says_it_is_a_form_and_is_read_all_the_same(server: Server):
    reply = server.classify(CAT, kind="application/x-www-form-urlencoded")
    assert reply.json["predictions"][0]["label"] == "tiger cat"


def test_curls_plain_data_damages_a_file_and_the_answer_says_what_to_use(server: Server):
    stripped = CAT.replace(b"\r", b"").replace(b"\n", b"").replace(b"\0", b"")
    reply = server.classify(stripped, kind="application/x-www-form-urlencoded")
    assert 400 <= reply.status < 500
    assert "--data-binary @FILE" in reply.json["error"]["message"]


def test_topk_is_top_k(server: Server):
    assert len(server.classify(CAT, "?topk=2").json["predictions"][0]["top"]) == 2


def test_several_files_of_a_form_are_answered_in_order(server: Server):
    body, kind = form(("a cat.jpg", CAT), ("../../etc/passwd", COFFEE))
    predictions = server.classify(body, kind=kind).json["predictions"]
    assert predictions == [record_of(CAT, "a cat.jpg"), record_of(COFFEE, "../../etc/passwd")]


def test_one_bad_image_of_several_fails_alone(server: Server):
    files = [(f"{n}.jpg", CAT) for n in range(7)]
    body, kind = form(*files[:3], ("bad.jpg", CAT[:500]), *files[3:])
    reply = server.classify(body, kind=kind)
    assert reply.status == 200
    codes = [p["error"] and p["error"]["code"] for p in reply.json["predictions"]]
    assert codes == [None, None, None, "truncated", None, None, None, None]
    assert [p["source"] for p in reply.json["predictions"]][3] == "bad.jpg"


@pytest.mark.parametrize("field", ["image", "images"])
def test_base64_in_json_gets_the_same_record(server: Server, field: str):
    text = base64.b64encode(CAT).decode()
    uris = f"data:image/jpeg;base64,{text}", f"DATA:;base64,{text.replace('+', '-')}"
    value = text if field == "image" else [text, *uris]
    reply = server.classify(json.dumps({field: value}).encode(), kind="application/json")
    labels = [p["label"] for p in reply.json["predictions"]]
    assert labels == ["tiger cat"] * (1 if field == "image" else 3)


def test_a_threshold_marks_what_is_below_it(server: Server):
    assert server.classify(CAT, "?threshold=0.9").json["predictions"][0]["unsure"] is True
    assert server.classify(CAT, "?threshold=0.1").json["predictions"][0]["unsure"] is False


def test_models_are_listed_with_their_labels(server: Server):
    (model,) = server.ask("GET", "/v1/models").json["models"]
    assert (model["classes"], model["input_size"], model["default"]) == (1000, [224, 224], True)
    labels = server.ask("GET", model["labels_url"]).json["labels"]
    assert labels == list(toplabel.load().labels)


@pytest.mark.parametrize(
    "name", ["efficientnet_lite0", "embedded/efficientnet_lite0", toplabel.load().name]
)
def test_a_model_is_found_by_its_short_and_full_names(server: Server, name: str):
    assert server.classify(CAT, f"?model={name}").status == 200


def test_an_unknown_model_is_a_404_that_names_those_there_are(server: Server):
    reply = server.classify(CAT, "?model=resnet50")
    assert (reply.status, reply.code) == (404, "model_not_found")
    assert "embedded/efficientnet_lite0" in reply.json["error"]["message"]


BAD_PICTURES = {
    "empty": (b"", 400, "empty"),
    "text": (b"<html><body>no image</body></html>", 415, "not_an_image"),
    "truncated": (CAT[: len(CAT) // 2], 422, "truncated"),
    "corrupt": (CAT[:30] + bytes(2000), 422, "corrupt"),
    "eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", 415, "unsupported_format"),
}


@pytest.mark.parametrize("name", BAD_PICTURES)
def test_a_bad_image_is_a_4xx_with_code_and_message(server: Server, name: str):
    content, status, code = BAD_PICTURES[name]
    reply = server.classify(content)
    assert reply.status == status
    assert reply.code in (code, "truncated" if name == "corrupt" else code)
    assert set(reply.json) == {"error"}
    assert set(reply.json["error"]) == {"code", "message"}
    assert "Traceback" not in reply.body.decode()
    assert "/" not in reply.json["error"]["message"].replace("I/O", "")


BAD_REQUESTS = {
    "top_k of nothing": ("POST", "/v1/classify?top_k=0", CAT, "image/jpeg", 422),
    "top_k of text": ("POST", "/v1/classify?top_k=many", CAT, "image/jpeg", 422),
    "a misspelt parameter": ("POST", "/v1/classify?top=3", CAT, "image/jpeg", 422),
    "a threshold of nan": ("POST", "/v1/classify?threshold=nan", CAT, "image/jpeg", 422),
    "a threshold of 2": ("POST", "/v1/classify?threshold=2", CAT, "image/jpeg", 422),
    "no JSON": ("POST", "/v1/classify", b"{", "application/json", 400),
    "a JSON list": ("POST", "/v1/classify", b"[]", "application/json", 400),
    "deep JSON": ("POST", "/v1/classify", b"[" * 100_000, "application/json", 413),
    "an empty object": ("POST", "/v1/classify", b"{}", "application/json", 422),
    "an empty list": ("POST", "/v1/classify", b'{"images": []}', "application/json", 422),
    "no base64": ("POST", "/v1/classify", b'{"image": "@@@"}', "application/json", 422),
    "a number": ("POST", "/v1/classify", b'{"image": 7}', "application/json", 422),
    "an unknown field": ("POST", "/v1/classify", b'{"path": "/etc"}', "application/json", 422),
    "a URL": ("POST", "/v1/classify", b'{"url": "http://x/"}', "application/json", 403),
    "no boundary": ("POST", "/v1/classify", b"x", "multipart/form-data", 400),
    "no form": ("POST", "/v1/classify", b"x", "multipart/form-data; boundary=b", 400),
    "an empty form": ("POST", "/v1/classify", b"--b--", "multipart/form-data; boundary=b", 422),
    "a wrong path": ("GET", "/v1/clasify", None, "", 404),
    "a file beside the page": ("GET", "/app.py", None, "", 404),
    "a path upwards": ("GET", "/../../../etc/passwd", None, "", 404),
    "an encoded path upwards": ("GET", "/%2e%2e/%2e%2e/etc/passwd", None, "", 404),
    "a wrong method": ("GET", "/v1/classify", None, "", 405),
    "another wrong method": ("DELETE", "/v1/models", None, "", 405),
    "no labels": ("GET", "/v1/models/nobody/labels", None, "", 404),
}


@pytest.mark.parametrize("name", BAD_REQUESTS)
def test_a_bad_request_is_a_4xx_in_the_one_form(server: Server, name: str):
    method, path, body, kind, status = BAD_REQUESTS[name]
    reply = server.ask(method, path, body, {"Content-Type": kind} if kind else {})
    assert reply.status == status
    assert set(reply.json) == {"error"}
    assert set(reply.json["error"]) == {"code", "message"}
    assert "Traceback" not in reply.body.decode()


def test_a_parameter_is_refused_in_our_own_words(server: Server):
    def said(query: str) -> str:
        return server.classify(CAT, query).json["error"]["message"]

    assert said("?treshold=1") == "unknown parameter 'treshold'; did you mean 'threshold'?"
    assert said("?x=2") == "unknown parameter 'x'; accepted are " + (
        "model, top_k, topk, threshold, exact"
    )
    assert said("?top_k=many") == "invalid parameter 'top_k'; expected a valid integer"
    wanted = "expected a number less than or equal to 1"
    assert said("?threshold=2") == f"invalid parameter 'threshold'; {wanted}"
    reply = server.post("/v1/explain?lable=2", CAT)
    assert reply.json["error"]["message"] == "unknown parameter 'lable'; did you mean 'label'?"


def test_a_compressed_body_is_refused(server: Server):
    headers = {"Content-Type": "image/jpeg", "Content-Encoding": "gzip"}
    assert server.ask("POST", "/v1/classify", CAT, headers).status == 415


@pytest.mark.parametrize("place", ["body", "json", "form", "query"])
def test_no_field_of_a_request_is_opened_as_a_path(server: Server, place: str, tmp_path: Path):
    file = tmp_path / "secret.jpg"
    file.write_bytes(CAT)
    path = str(file)
    if place == "body":
        reply = server.classify(path.encode())
    elif place == "json":
        reply = server.classify(json.dumps({"image": path}).encode(), kind="application/json")
    elif place == "form":
        body, kind = form((path, path.encode()))
        reply = server.classify(body, kind=kind)
    else:
        reply = server.classify(CAT, f"?model={path}")
    assert reply.status in (404, 415, 422)
    assert path not in reply.body.decode()


def test_a_request_id_is_kept_where_it_is_harmless(server: Server):
    ask = {"X-Request-ID": "trace-1.a_B"}
    assert server.ask("GET", "/v1/models", headers=ask).headers["x-request-id"] == "trace-1.a_B"
    hostile = {"X-Request-ID": 'a"b{}<script>'}
    made = server.ask("GET", "/v1/models", headers=hostile).headers["x-request-id"]
    assert len(made) == 32


def test_the_api_is_described_for_people_without_a_third_party(server: Server):
    reply = server.ask("GET", "/docs")
    assert reply.status == 200
    assert "script-src 'self'" in reply.headers["content-security-policy"]
    page = reply.body.decode()
    assert "/v1/classify" in page
    assert "https://" not in page
    assert re.findall(r"<script[^>]*>", page) == ['<script src="/docs.js" defer>']
    assert f"http://127.0.0.1:{server.port}/v1/classify?top_k=3" in page  # where it really is
    for name in ("RecordBody", "ClassifyBody"):  # what answers hold, and what that is
        assert f'href="#{name}"' in page
        assert f'id="{name}"' in page
    for target in re.findall(r'href="#([^"]+)"', page):  # the contents, and objects
        assert f'id="{target}"' in page
    assert "HTTPValidationError" not in page  # a form of errors that no answer has


def test_an_explanation_is_a_image_or_numbers(server: Server):
    png = server.post("/v1/explain", CAT)
    assert (png.status, png.headers["content-type"]) == (200, "image/png")
    with Image.open(io.BytesIO(png.body)) as shown, Image.open(io.BytesIO(CAT)) as given:
        assert shown.size == given.size
    told = server.post("/v1/explain?format=json&label=3", CAT).json
    assert (told["index"], told["label"], told["method"]) == (3, "tiger shark", "occlusion")
    assert (told["width"], told["height"]) == (451, 300)
    heat = told["heat"]
    assert (len(heat), {len(row) for row in heat}) == (85, {128})
    assert max(map(max, heat)) > 0.9
    assert min(map(min, heat)) == 0


def test_what_cannot_be_explained_is_a_4xx(server: Server):
    assert server.post("/v1/explain?label=1000", CAT).code == "invalid_parameter"
    assert server.post("/v1/explain", CAT[:900]).code == "truncated"
    assert server.post("/v1/explain?format=gif", CAT).status == 422
    body, kind = form(("a.jpg", CAT), ("b.jpg", CAT))
    assert server.post("/v1/explain", body, kind).code == "too_many_images"


def test_a_request_may_ask_for_the_exact_answer(server: Server):
    file = io.BytesIO()
    with Image.open(io.BytesIO(CAT)) as image:
        image.resize((1804, 1200)).save(file, "JPEG")  # decoded at half its size by default
    for query, exact in (("?exact=true", True), ("?exact=false", False), ("", False)):
        (record,) = server.classify(file.getvalue(), query).json["predictions"]
        expected = toplabel.load(exact=exact)(file.getvalue())
        assert record["score"] == pytest.approx(expected.score, abs=1e-6)
    assert server.classify(file.getvalue(), "?exact=perhaps").code == "invalid_parameter"


def test_a_request_whose_rest_is_no_http_leaves_no_traceback(server: Server):
    first = head("/health/live", method="GET")
    broken = head("/health/live", Transfer_Encoding="chunked") + b"no number\r\n"
    assert server.raw(first + broken).startswith(b"HTTP/1.1 200 ")  # both come at once

    def logged() -> list[dict[str, object]]:
        asked = [one for one in server.requests if one.get("path") == "/health/live"]
        return [one for one in asked if one["method"] == "POST"]

    assert wait_until(logged)  # what went wrong is logged before that
    assert not [one for one in server.requests if "exception" in one]


def test_the_servers_limits_are_within_what_is_promised():
    options = ServeOptions()
    assert options.header_timeout <= 15
    assert options.body_timeout <= 60
    assert options.drain_timeout <= 30
