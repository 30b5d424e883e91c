"""The dialects that clients speak already, each with the real client against a real server."""

import base64
import json
import struct
from collections.abc import Iterator

import numpy as np
import pytest
import tritonclient.http as triton
from huggingface_hub import InferenceClient
from huggingface_hub.errors import HfHubHTTPError
from tritonclient.utils import InferenceServerException

import toplabel
from serving import CAT, ROOT, Server, serving
from toplabel.image.reading import read_image

COFFEE = (ROOT / "examples" / "coffee.jpg").read_bytes()
NAME = "efficientnet_lite0"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving("--no-access-log", "--max-images", "4") as running:
        yield running


@pytest.fixture
def client(server: Server) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(server.url.removeprefix("http://")) as made:
        yield made


def test_hugging_faces_client_gets_the_same_labels_and_scores(server: Server):
    expected = [(c.label, round(c.score, 6)) for c in toplabel.load()(CAT).top]
    for model in (server.url, f"{server.url}/models/{NAME}"):
        answer = InferenceClient(model=model).image_classification(CAT)
        assert [(one.label, one.score) for one in answer] == expected


def test_hugging_faces_client_may_choose_number_and_function(server: Server):
    client = InferenceClient(model=server.url)
    path = str(ROOT / "examples" / "cat.jpg")
    softmax = client.image_classification(path, top_k=3, function_to_apply="softmax")
    logits = client.image_classification(path, top_k=3, function_to_apply="none")
    sigmoid = client.image_classification(path, top_k=3, function_to_apply="sigmoid")
    assert [one.label for one in softmax] == [one.label for one in logits]
    assert len(softmax) == 3
    for one, other in zip(logits, sigmoid, strict=True):
        assert other.score == pytest.approx(1 / (1 + np.exp(-one.score)), abs=1e-5)
    ratio = np.exp(logits[0].score - logits[1].score)
    assert softmax[0].score / softmax[1].score == pytest.approx(ratio, rel=1e-3)


def test_hugging_faces_client_is_told_what_is_wrong(server: Server):
    with pytest.raises(HfHubHTTPError, match="not_an_image"):
        InferenceClient(model=server.url).image_classification(b"no image at all")
    with pytest.raises(HfHubHTTPError, match="model_not_found"):
        InferenceClient(model=f"{server.url}/models/nobody").image_classification(CAT)


HF_BAD = {
    "no inputs": ({}, 422),
    "a number": ({"inputs": 3}, 422),
    "no base64": ({"inputs": "%%"}, 422),
    "parameters as a list": ({"inputs": "eA==", "parameters": [1]}, 422),
    "an unknown parameter": ({"inputs": "eA==", "parameters": {"topk": 1}}, 422),
    "top_k of zero": ({"inputs": base64.b64encode(CAT).decode(), "parameters": {"top_k": -1}}, 422),
    "another function": (
        {"inputs": base64.b64encode(CAT).decode(), "parameters": {"function_to_apply": "relu"}},
        422,
    ),
}


@pytest.mark.parametrize("name", HF_BAD)
def test_a_bad_request_in_hugging_faces_dialect_is_a_4xx(server: Server, name: str):
    value, status = HF_BAD[name]
    reply = server.post("/", json.dumps(value).encode(), "application/json")
    assert reply.status == status
    assert set(reply.json["error"]) == {"code", "message"}


@pytest.mark.parametrize("path", ["/", f"/models/{NAME}"])
def test_parameters_that_hugging_faces_dialect_does_not_read_are_refused(server: Server, path: str):
    reply = server.post(f"{path}?top_k=2", CAT)
    assert reply.status == 422
    assert "got 'top_k' after the question mark" in reply.json["error"]["message"]


def image_input(*contents: bytes, binary: bool = True) -> triton.InferInput:
    values = np.empty(len(contents), dtype=object)
    values[:] = contents
    made = triton.InferInput("image", [len(contents)], "BYTES")
    made.set_data_from_numpy(values, binary_data=binary)
    return made


def test_tritons_client_finds_the_server_alive_and_ready(client: triton.InferenceServerClient):
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(NAME)
    assert client.is_model_ready(NAME, "1")
    assert not client.is_model_ready("nobody")
    assert client.get_server_metadata()["name"] == "toplabel"


def test_tritons_client_reads_what_a_model_takes_and_gives(client: triton.InferenceServerClient):
    metadata = client.get_model_metadata(toplabel.load().name)
    shapes = {one["name"]: one["shape"] for one in metadata["inputs"] + metadata["outputs"]}
    assert shapes["tensor"] == [-1, 3, 224, 224]
    assert shapes["logits"] == [-1, 1000]


def test_tritons_client_sends_images_in_binary_and_gets_labels(
    client: triton.InferenceServerClient,
):
    result = client.infer(NAME, [image_input(CAT, COFFEE)], "1", request_id="7")
    expected = toplabel.load()([CAT, COFFEE])
    assert result.as_numpy("label").tolist() == [p.label.encode() for p in expected]
    assert result.as_numpy("index").tolist() == [p.index for p in expected]
    assert result.as_numpy("score") == pytest.approx([p.score for p in expected], abs=1e-6)
    assert result.get_response()["id"] == "7"


@pytest.mark.parametrize("binary", [True, False])
def test_tritons_client_sends_a_prepared_tensor_and_gets_the_engines_logits(
    server: Server, client: triton.InferenceServerClient, binary: bool
):
    model = toplabel.load()
    tensor = np.stack([model.preprocess(read_image(c).pixels) for c in (CAT, COFFEE)])
    given = triton.InferInput("tensor", list(tensor.shape), "FP32")
    given.set_data_from_numpy(tensor, binary_data=binary)
    wanted = [triton.InferRequestedOutput("logits", binary_data=binary)]
    logits = client.infer(NAME, [given], outputs=wanted).as_numpy("logits")
    engine = model.classifier.open_engine(1)
    assert np.abs(logits - engine(tensor)).max() <= 1e-4
    calls, images = (server.metric(f"toplabel_batch_images_{one}") for one in ("count", "sum"))
    assert calls == images  # one after the other: what a call took, the engine keeps


def test_tritons_classification_extension_names_the_best_classes(
    client: triton.InferenceServerClient,
):
    wanted = [triton.InferRequestedOutput("scores", class_count=3)]
    (best,) = client.infer(NAME, [image_input(CAT)], outputs=wanted).as_numpy("scores")
    expected = toplabel.load()(CAT, top_k=3).top
    assert [text.decode().split(":", 2)[1:] for text in best] == [
        [str(one.index), one.label] for one in expected
    ]


def test_images_as_base64_in_json_are_taken(server: Server):
    text = base64.b64encode(CAT).decode()
    tensor = {"name": "image", "datatype": "BYTES", "shape": [1], "data": [text]}
    reply = server.post(
        f"/v2/models/{NAME}/infer", json.dumps({"inputs": [tensor]}).encode(), "application/json"
    )
    outputs = {one["name"]: one["data"] for one in reply.json["outputs"]}
    assert outputs["label"] == ["tiger cat"]


def test_tritons_client_is_told_what_is_wrong(client: triton.InferenceServerClient):
    with pytest.raises(InferenceServerException, match="unknown model"):
        client.infer("nobody", [image_input(CAT)])
    with pytest.raises(InferenceServerException, match="image 1: .* truncated"):
        client.infer(NAME, [image_input(CAT, CAT[: len(CAT) // 2])])
    with pytest.raises(InferenceServerException, match="expected at most 4 per request"):
        client.infer(NAME, [image_input(*[CAT] * 5)])
    other = triton.InferInput("x", [1], "BYTES")
    other.set_data_from_numpy(np.array([b"x"], dtype=object))
    with pytest.raises(InferenceServerException, match="Input should be .image. or .tensor."):
        client.infer(NAME, [other])


def tensor(**changes: object) -> dict[str, object]:
    return {"name": "image", "datatype": "BYTES", "shape": [1], "data": ["eA=="], **changes}


V2_BAD = {
    "no inputs": {},
    "inputs as text": {"inputs": "x"},
    "a list of numbers": {"inputs": [1]},
    "no name": {"inputs": [{"datatype": "BYTES", "shape": [1], "data": ["eA=="]}]},
    "no data": {"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1]}]},
    "a negative shape": {"inputs": [tensor(shape=[-1])]},
    "a shape of nothing": {"inputs": [tensor(shape=[])]},
    "a shape of truth": {"inputs": [tensor(shape=[True])]},
    "a huge shape": {"inputs": [tensor(shape=[2**31 - 1] * 8)]},
    "another datatype": {"inputs": [tensor(datatype="COMPLEX")]},
    "more bytes than there are": {"inputs": [tensor(parameters={"binary_data_size": 99})]},
    "text for a size": {"inputs": [tensor(parameters={"binary_data_size": "9"})]},
    "numbers for images": {"inputs": [tensor(datatype="FP32", data=[1.0])]},
    "words for numbers": {"inputs": [tensor(name="tensor", datatype="FP32", data=["x"])]},
    "a wrong tensor": {"inputs": [tensor(name="tensor", datatype="FP32", data=[1.0])]},
    "an unknown output": {"inputs": [tensor()], "outputs": [{"name": "probability"}]},
    "outputs as text": {"inputs": [tensor()], "outputs": "label"},
    "classes as text": {
        "inputs": [tensor()],
        "outputs": [{"name": "scores", "parameters": {"classification": "x"}}],
    },
}


@pytest.mark.parametrize("name", V2_BAD)
def test_a_bad_inference_request_is_a_4xx_in_the_protocols_form(server: Server, name: str):
    body = json.dumps(V2_BAD[name]).encode()
    reply = server.post(f"/v2/models/{NAME}/infer", body, "application/json")
    assert reply.status in (400, 422)
    assert isinstance(reply.json["error"], str)
    assert isinstance(reply.json["code"], str)


@pytest.mark.parametrize(
    "binary",
    [b"", b"\x05\x00", struct.pack("<I", 99) + b"x", struct.pack("<I", 0) * 9, bytes(400)],
    ids=["nothing", "half a length", "too short", "too many", "zeros"],
)
def test_a_damaged_binary_tensor_is_a_400(server: Server, binary: bytes):
    tensors = [
        {
            "name": "image",
            "datatype": "BYTES",
            "shape": [1],
            "parameters": {"binary_data_size": len(binary)},
        }
    ]
    header = json.dumps({"inputs": tensors}).encode()
    for length in (str(len(header)), "999999999", "-1", "x" * 30):
        headers = {"Inference-Header-Content-Length": length}
        path = f"/v2/models/{NAME}/infer"
        assert server.ask("POST", path, header + binary, headers).status in (400, 415)
