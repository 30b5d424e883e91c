"""SanityChecks: which answers are warned of, which are not, and what they cost."""

import os
import signal
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from toplabel.bundle.bundle import built_in_bundle
from toplabel.inference.checks import CHECKED, ChannelOrder, SanityChecks
from toplabel.inference.classifier import Classifier
from toplabel.inference.engines import Engine
from toplabel.labels.labels import Labels
from toplabel.preprocess.preprocess import Preprocess

PREPROCESS = Preprocess(
    input_size=(8, 8),
    resize_mode="squash",
    resize_size=(8, 8),
    mean=(0.4, 0.5, 0.6),
    std=(0.1, 0.2, 0.3),
)


def classifier(count: int = 5, activation: str = "softmax", **changed: object) -> Classifier:
    names = Labels(tuple(f"class{index}" for index in range(count)))
    return Classifier(
        name="test/model@00000000",
        preprocess=changed.pop("preprocess", PREPROCESS),  # type: ignore[arg-type]
        labels=names,
        activation=activation,  # type: ignore[arg-type]
        open_engine=lambda threads, features=False: pytest.fail("the engine is not to be opened"),
        parallel=True,
    )


def images(count: int) -> np.ndarray:
    """Different tensors, float32 (count, 3, 8, 8)."""
    return np.random.default_rng(1).normal(size=(count, 3, 8, 8)).astype(np.float32)


def logits(count: int, classes: int = 5) -> np.ndarray:
    """What a trained network says of different images, float32 (count, classes)."""
    return np.random.default_rng(2).normal(0, 3, (count, classes)).astype(np.float32)


def warnings_of(answers: np.ndarray, *, activation: str = "softmax") -> tuple[str, ...]:
    """The warnings where these are the answers to different images."""
    checks = SanityChecks(classifier(answers.shape[1], activation))
    for tensor, answer in zip(images(len(answers)), answers, strict=True):
        checks.look(tensor, answer.astype(np.float32))
    return checks.take_warnings()


def softmax(values: np.ndarray) -> np.ndarray:
    exponentials = np.exp(values)
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def test_ordinary_answers_raise_no_warning() -> None:
    for classes in (2, 3, 10, 1000):
        assert warnings_of(logits(100, classes)) == ()
        assert warnings_of(logits(100, classes), activation="sigmoid") == ()
        assert warnings_of(softmax(logits(100, classes)), activation="none") == ()


def test_outputs_that_sum_to_one_are_told_once() -> None:
    (text,) = warnings_of(softmax(logits(100)))
    assert "lie between 0 and 1 and sum to 1" in text
    assert "remove the softmax" in text


def test_outputs_of_half_precision_are_told_too() -> None:
    (text,) = warnings_of(softmax(logits(100)).astype(np.float16))
    assert "lie between 0 and 1 and sum to 1" in text


def test_small_logits_of_a_multi_label_model_say_nothing() -> None:
    assert warnings_of(1 / (1 + np.exp(-logits(100))), activation="sigmoid") == ()


def test_own_sigmoids_that_lie_close_together_are_trained() -> None:
    answers = 0.7 + 0.1 / (1 + np.exp(-logits(100)))
    assert warnings_of(answers, activation="none") == ()


def test_a_single_class_that_applies_or_not_is_not_called_the_same_for_all() -> None:
    assert warnings_of(logits(100, 1), activation="sigmoid") == ()


def test_a_class_that_is_left_out_does_not_end_the_checks() -> None:
    answers = softmax(logits(100)) * 0
    answers[:, 1] = -np.inf
    assert any(
        "nearly uniform" in text or "predicted as class" in text for text in warnings_of(answers)
    )


def test_a_single_sum_of_one_says_nothing() -> None:
    answers = logits(100)
    answers[0] = softmax(answers)[0]
    assert warnings_of(answers) == ()


def test_an_untrained_last_layer_is_told_once_after_eight() -> None:
    answers = logits(100) * 0.02
    assert warnings_of(answers[:7]) == ()
    (text,) = warnings_of(answers)
    assert "nearly uniform over its 5 classes" in text
    assert "first 8 images" in text
    (text,) = warnings_of(answers, activation="sigmoid")
    assert "nearly uniform over" in text


def test_two_classes_may_be_hard_to_tell_apart() -> None:
    assert warnings_of(logits(40, 2) * 0.02) == ()


def test_one_clear_answer_takes_the_warning_away() -> None:
    answers = logits(100) * 0.02
    answers[5] *= 50
    assert warnings_of(answers) == ()


def test_the_same_class_for_all_is_told_after_sixteen() -> None:
    answers = np.tile(logits(1), (100, 1)) + logits(100) * 0.01
    assert warnings_of(answers[:15]) == ()
    (text,) = warnings_of(answers)
    assert f"first 16 images was predicted as class {answers[0].argmax()} ('class" in text
    assert "weights that were not loaded" in text


def test_images_of_one_kind_are_told_only_when_nothing_else_comes() -> None:
    answers = logits(100)
    answers[:, 3] += 18
    assert warnings_of(answers[:40]) == ()
    (text,) = warnings_of(answers)
    assert f"first {CHECKED} images was predicted as class 3" in text
    assert "unless all show it" in text


def test_the_same_image_again_is_no_evidence() -> None:
    checks = SanityChecks(classifier())
    tensor, answer = images(1)[0], logits(1)[0] * 0.01
    for _ in range(100):
        checks.look(tensor.copy(), answer)
    assert checks.take_warnings() == ()
    assert not checks.active


def test_frames_of_one_scene_may_give_nearly_the_same_outputs() -> None:
    checks = SanityChecks(classifier())
    answers = np.tile(logits(1), (40, 1)) + logits(40) * 0.01
    for noise, answer in zip(images(40), answers, strict=True):
        checks.look(images(1)[0] + noise * np.float32(0.05), answer)
    assert checks.take_warnings() == ()


def test_sure_answers_of_one_class_are_not_nearly_the_same() -> None:
    answers = logits(40)
    answers[:, 3] += 18
    assert warnings_of(softmax(answers), activation="none") == ()


def test_answers_that_are_no_numbers_say_nothing() -> None:
    answers = np.tile(logits(1), (100, 1))
    answers[:, 0] = np.nan
    assert warnings_of(answers) == ()


class Colours:
    """Surer of a image the more red than blue it is; its green says which of 40 classes."""

    name = "onnxruntime"
    device = "cpu"
    normalises = None

    def __init__(self, sureness: float = 6.0) -> None:
        self.calls = 0
        self.sureness = sureness

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        self.calls += 1
        image = batch * np.reshape(PREPROCESS.std, (3, 1, 1)) + np.reshape(
            PREPROCESS.mean, (3, 1, 1)
        )
        red, green, blue = np.moveaxis(image.mean(axis=(2, 3)), 1, 0)
        answer = np.zeros((len(batch), 40), np.float32)
        places = np.rint(green * 255).astype(int) % 40
        answer[np.arange(len(batch)), places] = 4 + self.sureness * (red - blue)
        return answer


def tinted(count: int, channel: int, *, scenes: int = 40) -> list[np.ndarray]:
    """Tensors of different images that have much of one channel, of so many greens."""
    random = np.random.default_rng(5)
    tensors = []
    for place in range(count):
        image = random.integers(0, 100, (8, 8, 3), dtype=np.uint8)
        image[..., 1] = 3 * (place % scenes)
        image[..., channel] += 100
        tensors.append(PREPROCESS(image))
    return tensors


def reddish(count: int) -> list[np.ndarray]:
    return tinted(count, 0)


def bluish(count: int) -> list[np.ndarray]:
    return tinted(count, 2)


def look_at_arrays(tensors: list[np.ndarray], engine: Engine, *, bgr: bool = False) -> list[str]:
    checks = SanityChecks(classifier(40), bgr=bgr)
    for tensor in tensors:
        checks.look(tensor, engine(tensor[None])[0], engine=engine)
    return [text for text in checks.take_warnings() if "look like" in text]


def test_arrays_with_red_and_blue_swapped_are_told_once() -> None:
    (text,) = look_at_arrays(bluish(40), Colours())
    assert text.startswith("the arrays look like BGR but are read as RGB")
    assert "ReadOptions(bgr=True)" in text


def test_arrays_read_as_bgr_that_are_rgb_are_told_so() -> None:
    (text,) = look_at_arrays(bluish(40), Colours(), bgr=True)
    assert text.startswith("the arrays look like RGB but are read as BGR")
    assert "leave out ReadOptions(bgr=True)" in text


def test_arrays_in_order_are_asked_about_only_at_the_start() -> None:
    engine = Colours()
    assert look_at_arrays(reddish(60), engine) == []
    assert engine.calls - 60 <= 5


def test_a_model_that_does_not_see_colours_is_asked_at_most_24_times() -> None:
    engine = Colours(sureness=0)
    assert look_at_arrays(bluish(60), engine) == []
    assert engine.calls - 60 <= 24


def test_frames_of_few_scenes_are_no_evidence() -> None:
    engine = Colours()
    assert look_at_arrays(tinted(60, 2, scenes=3), engine) == []
    assert engine.calls - 60 <= 3


def test_a_model_that_then_sees_something_else_is_no_evidence() -> None:
    """As one for tissue, say: all blue images look the same to it, and it is sure of them."""

    class OneForBlue(Colours):
        def __call__(self, batch: np.ndarray) -> np.ndarray:
            answer = super().__call__(batch)
            answer[:, 7] += 20 * (answer.max(axis=1) > 4)
            return answer

    assert look_at_arrays(bluish(60), OneForBlue()) == []


def test_files_are_never_run_again() -> None:
    checks = SanityChecks(classifier(40))
    for tensor in bluish(60):
        checks.look(tensor, Colours()(tensor[None])[0])
    assert not any("look like" in text for text in checks.take_warnings())


def test_swapping_is_done_on_pixels_not_on_normalised_values() -> None:
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    order = ChannelOrder(classifier(), bgr=False)
    seen: list[np.ndarray] = []

    def engine(batch: np.ndarray) -> np.ndarray:
        seen.append(batch[0])
        return np.zeros((1, 5), np.float32)

    order.look(PREPROCESS(image), np.zeros(5, np.float32), engine)  # type: ignore[arg-type]
    assert np.allclose(seen[0], PREPROCESS(np.ascontiguousarray(image[..., ::-1])), atol=1e-5)


def test_an_engine_that_fails_when_asked_again_changes_nothing() -> None:
    def engine(batch: np.ndarray) -> np.ndarray:
        raise RuntimeError("out of memory")

    checks = SanityChecks(classifier(40))
    for tensor, answer in zip(bluish(20), logits(20, 40), strict=True):
        checks.look(tensor, answer, engine=engine)  # type: ignore[arg-type]
    assert checks.take_warnings() == ()


@pytest.mark.parametrize("channels", ["grey", 4])
def test_grey_and_other_channels_have_no_order(channels: str | int) -> None:
    count = 1 if channels == "grey" else 4
    preprocess = Preprocess(
        input_size=(8, 8), resize_mode="none", channels=channels, mean=[0] * count, std=[1] * count
    )  # fmt: skip
    checks = SanityChecks(classifier(preprocess=preprocess))
    for answer in logits(20):
        tensor = np.random.default_rng().normal(size=(count, 8, 8)).astype(np.float32)
        checks.look(tensor, answer, engine=pytest.fail)  # type: ignore[arg-type]
    assert not checks.active


def test_arrays_that_come_while_another_is_looked_at_count_too() -> None:
    """So that what is found out does not hang on how two threads happen to meet."""
    busy, go_on, asked = threading.Event(), threading.Event(), []

    def engine(batch: np.ndarray) -> np.ndarray:
        asked.append(batch)
        busy.set()
        assert go_on.wait(60)
        return np.zeros((1, 40), np.float32)

    checks = SanityChecks(classifier(40))
    answers = np.eye(40, dtype=np.float32)[:6]
    arguments = list(zip(images(6), answers, strict=True))
    first = threading.Thread(target=checks.look, args=arguments[0], kwargs={"engine": engine})
    first.start()
    assert busy.wait(60)
    for tensor, answer in arguments[1:]:
        checks.look(tensor, answer, engine=engine)  # type: ignore[arg-type]
    assert len(asked) == 1
    go_on.set()
    first.join(60)
    assert len(asked) == 6


def test_each_warning_comes_once_from_many_threads() -> None:
    checks = SanityChecks(classifier())
    answers = softmax(np.tile(logits(1), (320, 1)))
    tensors = images(320)

    def work(start: int) -> None:
        for place in range(start, 320, 8):
            checks.look(tensors[place], answers[place].astype(np.float32))

    workers = [threading.Thread(target=work, args=(start,)) for start in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    texts = checks.take_warnings()
    assert len(texts) == len(set(texts)) == 2
    assert not checks.active
    assert checks.take_warnings() == ()


def test_a_thread_that_is_held_up_while_it_looks_costs_no_warning() -> None:
    checks = SanityChecks(classifier())
    with checks._lock:
        other = threading.Thread(target=checks.look, args=(images(1)[0], logits(1)[0]))
        other.start()
        other.join(0.1)
        assert other.is_alive()
    other.join(60)
    assert checks.active
    assert len(checks._seen) == 1


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_lock_that_a_fork_left_behind_stops_nobody() -> None:
    checks = SanityChecks(classifier())
    with checks._lock:
        child = os.fork()
        if child == 0:
            signal.alarm(60)
            for tensor, answer in zip(images(20), logits(20), strict=True):
                checks.look(tensor, answer)
            os._exit(0 if checks._seen and not checks.active else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_after_the_first_images_nothing_is_looked_at() -> None:
    checks = SanityChecks(classifier(1000))
    tensors, answers = images(200), logits(200, 1000)
    for tensor, answer in zip(tensors[:CHECKED], answers, strict=False):
        checks.look(tensor, answer)
    assert not checks.active
    checks.look(None, None)  # type: ignore[arg-type]  # would fail at the first look


@pytest.mark.slow
@pytest.mark.shared_data
def test_photos_raise_no_warning_of_the_built_in_model_and_bgr_does(shared_data: Path) -> None:
    model = Classifier.of_bundle(built_in_bundle())
    engine = model.open_engine(2)
    paths = sorted((shared_data / "imagenet").iterdir())[::3]
    tensors = []
    for path in paths:
        tensors.append(model.preprocess(np.asarray(Image.open(path).convert("RGB"))))
    order = ChannelOrder(model, bgr=False)
    right = [engine(tensor[None])[0] for tensor in tensors]
    wrong = [engine(order._swap(tensor)[None])[0] for tensor in tensors]

    def warned(first: list[np.ndarray], second: list[np.ndarray], places: np.ndarray) -> bool:
        checks = SanityChecks(model)
        for place in places:
            checks.look(tensors[place], first[place], engine=lambda _, p=place: second[p][None])
        texts = checks.take_warnings()
        assert all("look like BGR" in text for text in texts)
        return bool(texts)

    random = np.random.default_rng(0)
    subsets = [random.permutation(len(paths))[:40] for _ in range(100)]
    assert sum(warned(right, wrong, places) for places in subsets) == 0
    assert sum(warned(wrong, right, places) for places in subsets) >= 90


UNRESIZED = Preprocess(input_size=(8, 8), resize_mode="none", mean=(0.5,) * 3, std=(0.5,) * 3)


def test_an_image_whose_middle_alone_is_seen_is_warned_of_once() -> None:
    checks = SanityChecks(classifier(preprocess=UNRESIZED))
    checks.look_at_sizes([(8, 8), (9, 10), (4, 30)])
    assert checks.take_warnings() == ()
    checks.look_at_sizes([(8, 8), (48, 64)])
    checks.look_at_sizes([(48, 64)])
    (text,) = checks.take_warnings()
    assert text.startswith("only the middle 8x8 pixels of larger images are looked at")
    assert "half-squash-8x8" in text
    assert not checks.watches_sizes


def test_sizes_of_images_that_are_resized_are_not_looked_at() -> None:
    assert not SanityChecks(classifier()).watches_sizes


def test_every_record_says_that_the_middle_alone_was_seen() -> None:
    import toplabel

    torch = pytest.importorskip("torch")
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 2))
    model = toplabel.wrap(network, labels=["cat", "dog"], preprocess=UNRESIZED, engine="torch")
    small, large = (np.zeros((side, side, 3), np.uint8) for side in (8, 60))
    assert not any("middle" in text for text in model(small).warnings)
    with pytest.warns(toplabel.ToplabelWarning, match="only the middle 8x8 pixels"):
        first = model(large)
    assert [one for one in first.warnings if "middle" in one]
