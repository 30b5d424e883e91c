"""The predictor: order, one record an input, retries, bounds, threads, fork, compiling."""

import io
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from toplabel.errors import EngineError, ImageError, ModelError, UsageError
from toplabel.inference.cascade import OpenedEngines
from toplabel.inference.classifier import Classifier, PendingClassifier
from toplabel.inference.predictor import Predictor
from toplabel.labels.labels import Labels
from toplabel.models.open import with_module
from toplabel.preprocess.preprocess import Preprocess

PREPROCESS = Preprocess(
    input_size=(8, 8), resize_mode="squash", resize_size=(8, 8), mean=(0, 0, 0), std=(1, 1, 1)
)
COLOURS = Labels(("red", "green", "blue"))


class FakeEngine:
    """Says which colour dominates; counts its calls and does what a test wants first."""

    name = "onnxruntime"
    device = "cpu"
    normalises = None

    def __init__(self, before: Callable[[np.ndarray], None] = lambda batch: None) -> None:
        self.before = before
        self.batch_sizes: list[int] = []

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        self.batch_sizes.append(len(batch))
        self.before(batch)
        return batch.mean(axis=(2, 3)) * 20


def predictor(engine: FakeEngine, *, parallel: bool = True, **options: object) -> Predictor:
    classifier = Classifier(
        name="test/colours@00000000",
        preprocess=PREPROCESS,
        labels=COLOURS,
        activation="softmax",
        open_engine=lambda threads, features=False: engine,
        parallel=parallel,
    )
    return Predictor(classifier, **options)  # type: ignore[arg-type]


def colour(index: int, size: int = 16) -> np.ndarray:
    pixels = np.zeros((size, size, 3), np.uint8)
    pixels[..., index] = 255
    return pixels


def jpeg(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def test_labels_one_image() -> None:
    prediction = predictor(FakeEngine())(colour(1))
    assert str(prediction) == "green"
    assert prediction.index == 1
    assert prediction.score is not None
    assert prediction.score > 0.99
    assert prediction.source == "<array 0>"
    assert prediction.error is None


def test_one_image_that_fails_raises_with_its_code() -> None:
    with pytest.raises(ImageError, match="no/such/file.jpg") as caught:
        predictor(FakeEngine())("no/such/file.jpg")
    assert caught.value.code == "not_found"


def test_a_list_gives_a_list_and_keeps_the_others_when_one_fails() -> None:
    predictions = predictor(FakeEngine())([colour(0), "missing.jpg", colour(2)])
    assert [prediction.label for prediction in predictions] == ["red", None, "blue"]
    assert predictions[1].error is not None
    assert predictions[1].error.code == "not_found"
    assert predictions[1].source == "missing.jpg"


@pytest.mark.parametrize("name", ["{}", "{}/", "{}/*.png"])
def test_a_folder_or_pattern_gives_the_images_of_it(name: str, tmp_path: Path) -> None:
    for index in (2, 0):
        Image.fromarray(colour(index)).save(tmp_path / f"{9 - index}.png")
    model, source = predictor(FakeEngine()), name.format(tmp_path)
    assert [one.label for one in model.stream(source)] == ["blue", "red"]
    assert [str(one) for one in model(source)] == ["blue", "red"]
    for call in (model, lambda source: list(model.stream(source))):
        with pytest.raises(UsageError, match="nothing matches the pattern"):
            call(f"{tmp_path}/*.jpg")
    with pytest.raises(UsageError, match="got one source to stream"):
        list(model.stream(jpeg(colour(0))))


def test_a_url_with_a_question_mark_is_one_image() -> None:
    with pytest.raises(ImageError) as caught:
        predictor(FakeEngine())("http://127.0.0.1:9/cat.jpg?size=[2]")
    assert caught.value.code == "fetch_failed"


def test_a_list_of_predictions_is_short_in_a_session_and_a_grid_in_a_notebook() -> None:
    predictions = predictor(FakeEngine())([colour(0), "<b>.jpg", colour(2)])
    first, failed, _ = predictions
    assert repr(first).startswith("Prediction(source='<array 0>', label='red', score=")
    assert repr(failed) == "Prediction(source='<b>.jpg', error='not_found')"
    assert len(repr(predictions)) < 300
    page = predictions._repr_html_()
    assert all(text in page for text in ("red", "not_found", "&lt;b&gt;.jpg"))
    assert "<b>.jpg" not in page


def test_predictions_are_rows_of_pandas() -> None:
    table = predictor(FakeEngine())([colour(0), "missing.jpg"]).to_pandas()
    assert [*table.columns][:4] == ["source", "label", "index", "score"]
    assert (table.label[0], table.error_code[1]) == ("red", "not_found")


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("batch_size", [1, 4, 7])
def test_a_stream_keeps_order_and_gives_one_record_an_input(threads: int, batch_size: int) -> None:
    order = np.random.default_rng(0).integers(0, 3, 50)
    sources = [colour(i) if n % 7 else b"" for n, i in enumerate(order)]
    model = predictor(FakeEngine(), threads=threads, batch_size=batch_size)
    predictions = list(model.stream(sources))
    assert len(predictions) == 50
    for n, (prediction, index) in enumerate(zip(predictions, order, strict=True)):
        assert prediction.index == (index if n % 7 else None)


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_streams_of_few_images_are_no_exception(count: int) -> None:
    assert len(list(predictor(FakeEngine()).stream([colour(0)] * count))) == count


def test_a_stream_takes_its_sources_only_as_needed() -> None:
    taken = []

    def sources() -> Iterator[np.ndarray]:
        for number in range(10_000):
            taken.append(number)
            yield colour(0)

    stream = predictor(FakeEngine(), threads=2).stream(sources())
    for _ in range(20):
        next(stream)
    stream.close()
    assert len(taken) < 100


def test_a_batch_that_fails_is_retried_one_by_one() -> None:
    def refuse_blue(batch: np.ndarray) -> None:
        if batch[:, 2].max() == 1:
            raise EngineError("no blue today")

    engine = FakeEngine(refuse_blue)
    model = predictor(engine, threads=1, batch_size=4)
    predictions = list(model.stream([colour(0)] + [colour(i) for i in (0, 1, 2, 0)]))
    assert [prediction.label for prediction in predictions] == ["red", "red", "green", None, "red"]
    assert predictions[3].error is not None
    assert predictions[3].error.code == "internal"
    assert "no blue today" in predictions[3].error.message


def test_an_image_too_large_for_memory_says_so() -> None:
    def no_memory(batch: np.ndarray) -> None:
        raise MemoryError

    (prediction,) = predictor(FakeEngine(no_memory))([colour(0)])
    assert prediction.error is not None
    assert prediction.error.code == "out_of_memory"


def test_logits_that_are_no_numbers_are_an_error() -> None:
    def spoil(batch: np.ndarray) -> None:
        batch[:] = np.nan

    (prediction,) = predictor(FakeEngine(spoil))([colour(0)])
    assert prediction.label is None
    assert prediction.error is not None
    assert prediction.error.code == "non_finite"


def test_a_source_of_an_unknown_kind_is_a_record_too() -> None:
    (prediction,) = predictor(FakeEngine())([None])
    assert prediction.error is not None
    assert prediction.error.code == "not_an_image"


def test_top_k_is_clamped_and_checked() -> None:
    model = predictor(FakeEngine())
    assert len(model(colour(0), top_k=99).top or ()) == 3
    with pytest.raises(UsageError, match="got top_k=0"):
        model(colour(0), top_k=0)


def test_a_threshold_marks_and_keeps_the_label() -> None:
    grey = np.full((8, 8, 3), 128, np.uint8)
    prediction = predictor(FakeEngine())(grey, threshold=0.9)
    assert prediction.unsure
    assert prediction.label == "red"
    with pytest.raises(UsageError, match="threshold=1.5"):
        predictor(FakeEngine())(grey, threshold=1.5)


@pytest.mark.parametrize("option", ["threads", "batch_size"])
def test_numbers_below_one_are_refused(option: str) -> None:
    with pytest.raises(UsageError, match=f"{option}=0"):
        predictor(FakeEngine(), **{option: 0})


def nearly_even(size: int) -> np.ndarray:
    pixels = np.full((size, size, 3), 100, np.uint8)
    pixels[..., 0] += 1
    return pixels


def test_a_large_jpeg_with_a_close_answer_is_read_again_exactly() -> None:
    engine = FakeEngine()
    prediction = predictor(engine)(jpeg(nearly_even(256)))
    exactly = predictor(FakeEngine(), exact=True)(jpeg(nearly_even(256)))
    assert engine.batch_sizes == [1, 1]
    assert replace(prediction, warnings=()) == replace(exactly, warnings=())


def test_a_large_jpeg_with_a_clear_answer_is_read_once_at_reduced_scale() -> None:
    engine = FakeEngine()
    assert str(predictor(engine)(jpeg(colour(2, 256)))) == "blue"
    assert engine.batch_sizes == [1]


def test_an_engine_that_is_not_parallel_is_called_by_one_thread_at_a_time() -> None:
    inside = threading.Semaphore(1)

    def alone(batch: np.ndarray) -> None:
        assert inside.acquire(blocking=False)
        threading.Event().wait(0.002)
        inside.release()

    model = predictor(FakeEngine(alone), parallel=False, threads=4, batch_size=1)
    assert all(p.error is None for p in model.stream([colour(0)] * 40))


def test_several_threads_may_share_a_predictor() -> None:
    model = predictor(FakeEngine(), threads=2)
    wrong: list[object] = []

    def use(index: int) -> None:
        for prediction in model.stream([colour(index)] * 20):
            if prediction.index != index:
                wrong.append(prediction)

    users = [threading.Thread(target=use, args=(index,)) for index in (0, 1, 2)]
    for user in users:
        user.start()
    for user in users:
        user.join()
    assert not wrong


def test_a_new_model_answers_first_and_is_compiled_before_the_second() -> None:
    eager, fast = FakeEngine(), FakeEngine()
    compiled = predictor(fast).classifier
    model = Predictor(PendingClassifier(predictor(eager).classifier, lambda: compiled))
    assert str(model(colour(0))) == "red"
    assert fast.batch_sizes == []
    assert [str(p) for p in model.stream([colour(1), colour(2)])] == ["green", "blue"]
    assert eager.batch_sizes == [1]
    assert sum(fast.batch_sizes) == 2


def test_a_stream_of_a_new_model_answers_first_then_compiles_then_goes_on() -> None:
    eager, fast = FakeEngine(), FakeEngine()
    compiled = predictor(fast).classifier
    model = Predictor(PendingClassifier(predictor(eager).classifier, lambda: compiled))
    assert len(list(model.stream([colour(0)] * 10))) == 10
    assert (sum(eager.batch_sizes), sum(fast.batch_sizes)) == (1, 9)


def test_a_model_that_cannot_be_compiled_stays_as_it_is() -> None:
    calls = []
    engine = FakeEngine()
    eager = predictor(engine).classifier

    def compile_in_vain() -> Classifier:
        calls.append(1)
        return eager

    model = Predictor(PendingClassifier(eager, compile_in_vain))
    assert len(list(model.stream([colour(0)] * 5))) == 5
    model.compile()
    assert calls == [1]
    assert sum(engine.batch_sizes) == 5


def test_who_asks_while_another_thread_compiles_waits_for_it() -> None:
    eager, fast = FakeEngine(), FakeEngine()
    compiled = predictor(fast).classifier
    compiling, go_on, streamed = threading.Event(), threading.Event(), threading.Event()

    def compile_() -> Classifier:
        compiling.set()
        assert go_on.wait(60)
        return compiled

    def stream() -> None:
        assert len(list(model.stream([colour(0)] * 4))) == 4
        streamed.set()

    model = Predictor(PendingClassifier(predictor(eager).classifier, compile_))
    model(colour(0))
    threads = [threading.Thread(target=model.compile), threading.Thread(target=stream)]
    threads[0].start()
    assert compiling.wait(60)
    threads[1].start()
    assert not streamed.wait(0.1)
    go_on.set()
    for thread in threads:
        thread.join(60)
    assert streamed.is_set()
    assert (eager.batch_sizes, sum(fast.batch_sizes)) == ([1], 4)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ModelError("its answers vary")])
def test_a_compilation_that_was_stopped_or_refused_is_begun_again(error: BaseException) -> None:
    eager, fast = FakeEngine(), FakeEngine()
    compiled, errors = predictor(fast).classifier, [error, error]

    def compile_() -> Classifier:
        if errors:
            raise errors.pop()
        return compiled

    inner = PendingClassifier(predictor(eager).classifier, compile_)
    model = Predictor(with_module(inner, lambda: pytest.fail("it is not needed")))
    assert str(model(colour(0))) == "red"
    for _ in range(2):
        with pytest.raises(type(error)):
            model(colour(0))
    assert str(model(colour(0))) == "red"
    assert (eager.batch_sizes, fast.batch_sizes) == ([1], [1])


def test_of_two_threads_after_a_fork_none_gets_the_engine_of_the_parent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    classifier = replace(
        predictor(FakeEngine()).classifier, open_engine=lambda threads, features=False: FakeEngine()
    )
    model, stopped, go_on = Predictor(classifier), threading.Event(), threading.Event()
    parents = model.open_engine()
    model._engines._process = -1

    def set_slowly(self: OpenedEngines, name: str, value: object) -> None:
        if name == "_exact" and not stopped.is_set():
            stopped.set()
            assert go_on.wait(60)
        object.__setattr__(self, name, value)

    monkeypatch.setattr(OpenedEngines, "__setattr__", set_slowly, raising=False)
    first = threading.Thread(target=model.open_engine)
    first.start()
    assert stopped.wait(60)
    try:
        assert model.open_engine() is not parents
    finally:
        go_on.set()
        first.join(60)


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_opens_its_engine_anew(tmp_path: Path) -> None:
    opened: list[int] = []
    classifier = predictor(FakeEngine()).classifier
    model = Predictor(
        replace(
            classifier,
            open_engine=lambda threads, features=False: opened.append(os.getpid()) or FakeEngine(),
        )
    )
    model(colour(0))
    child = os.fork()
    if child == 0:
        good = False
        try:
            good = str(model(colour(1))) == "green" and opened[-1] == os.getpid()
        finally:
            os._exit(0 if good else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert opened == [os.getpid()]


def test_closing_gives_the_engine_back_and_the_next_call_opens_it() -> None:
    opened = []
    classifier = replace(
        predictor(FakeEngine()).classifier,
        open_engine=lambda threads, features=False: opened.append(1) or FakeEngine(),
    )
    with Predictor(classifier) as model:
        model(colour(0))
    model(colour(0))
    assert len(opened) == 2


@pytest.mark.parametrize("source", ["cat.jpg", b"bytes", Path("cat.jpg")])
def test_one_source_is_no_stream(source: object) -> None:
    with pytest.raises(UsageError, match=r"stream\(\[source\]\)"):
        list(predictor(FakeEngine()).stream(source))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "wrong", [{"top_k": 1.5}, {"top_k": "a"}, {"top_k": None}, {"top_k": True}, {"threshold": "a"}]
)
def test_settings_of_another_kind_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=f"got {next(iter(wrong))}="):
        predictor(FakeEngine())(colour(0), **wrong)  # type: ignore[call-overload]


def test_numbers_of_numpy_are_numbers() -> None:
    model = predictor(FakeEngine())
    prediction = model(colour(0), top_k=np.int64(2), threshold=np.float32(0.5))  # type: ignore
    assert len(prediction.top or ()) == 2


def test_a_batch_labeller_labels_as_stream_does_and_knows_the_size_of_each_image() -> None:
    sources = [colour(0), jpeg(np.zeros((20, 30, 3), np.uint8)), "gone.jpg"]
    model = predictor(FakeEngine())
    found = model.batch_labeller(all_scores=True).label(list(enumerate(sources)))
    assert found == list(model.stream(sources))
    assert [(one.width, one.height) for one in found] == [(16, 16), (30, 20), (None, None)]
    assert found[0].scores is not None
    assert found[0].scores.dtype == np.float16
    assert found[0].scores.argmax() == found[0].index
    assert found[2].scores is None


def test_the_old_names_of_methods_still_work() -> None:
    model = predictor(FakeEngine())
    with pytest.warns(DeprecationWarning, match=r"use Predictor\.batch_labeller"):
        labeller = model.many()
    assert [str(found) for found in labeller.label([(0, colour(2))])] == ["blue"]
    with pytest.warns(DeprecationWarning, match=r"use Predictor\.report_warnings"):
        model.pass_warnings_on()
    with pytest.raises(AttributeError, match="no attribute 'mani'"):
        model.mani  # noqa: B018
