"""The same answers over HTTP as from the library, whatever way and in whatever company."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tritonclient.http as triton

import toplabel
from serving import Server, form, serving
from toplabel.inference.batch import PredictOptions, label_batch
from toplabel.serve.models import serve_model


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving("--no-access-log") as running:
        yield running


def photos_of(shared_data: Path, count: int) -> list[bytes]:
    files = sorted((shared_data / "imagenet").iterdir())
    return [file.read_bytes() for file in files[:: len(files) // count]]


def library_logits(contents: list[bytes]) -> np.ndarray:
    """Logits by the library's own way, one image at a time, at full scale or not as it likes."""
    model = toplabel.load()
    seen: list[np.ndarray] = []
    engine = model.classifier.open_engine(1)

    class Seen:
        name, device, normalises = engine.name, engine.device, None

        def __call__(self, batch: np.ndarray) -> np.ndarray:
            self.last = engine(batch)
            return self.last

    for content in contents:
        watched = Seen()
        label_batch([(0, content)], watched, model.classifier, PredictOptions())
        seen.append(watched.last[0])
    return np.stack(seen)


@pytest.mark.shared_data
def test_every_way_in_gives_the_librarys_labels_and_logits(server: Server, shared_data: Path):
    contents = photos_of(shared_data, 16)
    expected = [p.to_dict() for p in toplabel.load()(contents)]
    with ThreadPoolExecutor(8) as clients:  # in company
        replies = list(clients.map(server.classify, contents))
    alone = [reply.json["predictions"][0] for reply in replies]
    body, kind = form(*[(f"{n}", content) for n, content in enumerate(contents)])
    together = server.classify(body, kind=kind).json["predictions"]
    for records in (alone, together):
        for record, wanted in zip(records, expected, strict=True):
            assert record["index"] == wanted["index"]
            assert record["score"] == pytest.approx(wanted["score"], abs=1e-4)
    with triton.InferenceServerClient(server.url.removeprefix("http://")) as client:
        values = np.empty(len(contents), dtype=object)
        values[:] = contents
        given = triton.InferInput("image", [len(contents)], "BYTES")
        given.set_data_from_numpy(values)
        logits = client.infer(
            "efficientnet_lite0", [given], outputs=[triton.InferRequestedOutput("logits")]
        ).as_numpy("logits")
    assert np.abs(logits - library_logits(contents)).max() <= 1e-4


@pytest.mark.shared_data
def test_putting_calls_together_changes_no_label_and_no_logit(shared_data: Path):
    contents = photos_of(shared_data, 12)
    predictor = toplabel.load()
    sizes: list[int] = []
    model = serve_model(
        None,
        predictor,
        read=predictor.read,
        threads=2,
        batching=True,
        batch_size=8,
        observe=sizes.append,
    )
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda c: model.answer(c, top_k=5, threshold=None), contents))
    assert max(sizes) > 1
    given = [answer.prediction.logits for answer in answers]
    logits = np.stack([one for one in given if one is not None])
    assert np.abs(logits - library_logits(contents)).max() <= 1e-4


@pytest.mark.shared_data
@pytest.mark.slow
def test_all_photos_get_the_same_label_by_every_way(server: Server, shared_data: Path):
    reference = json.loads((shared_data / "reference" / "lite0_imagenet.json").read_text())
    files = sorted((shared_data / "imagenet").iterdir())
    contents = [file.read_bytes() for file in files]
    expected = [p.index for p in toplabel.load().stream(files)]
    with ThreadPoolExecutor(16) as clients:
        replies = list(clients.map(server.classify, contents))
    found = [reply.json["predictions"][0]["index"] for reply in replies]
    assert found == expected
    assert len(reference) > 0


@pytest.mark.shared_data
@pytest.mark.slow
def test_the_hostile_corpus_gets_4xx_or_labels_and_never_a_500(shared_data: Path):
    files = [f for f in sorted((shared_data / "hostile").rglob("*")) if f.is_file()]
    with serving("--no-access-log") as server:
        server.classify(files[0].read_bytes())
        for file in files:
            reply = server.classify(file.read_bytes())
            assert reply.status in (200, 400, 413, 415, 422), (file, reply)
            assert str(file.parent) not in reply.body.decode()
            assert "Traceback" not in reply.body.decode()
        assert server.resident_mb() < 1000
