"""Reading a checkpoint: the same nesting with plain tensors, or one line that says why not."""

import argparse
import collections
import pickle
import random
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytestmark = pytest.mark.torch

import numpy as np  # noqa: E402
import torch  # noqa: E402

import checkpoints as made  # noqa: E402
from toplabel.errors import CheckpointError, MissingDependency  # noqa: E402
from toplabel.models.checkpoint.allowed_globals import check_no_program  # noqa: E402
from toplabel.models.checkpoint.header import read_checkpoint_info  # noqa: E402
from toplabel.models.checkpoint.reading import (  # noqa: E402
    demand_safe_pickles,
    non_finite_names,
    read_checkpoint,
)
from toplabel.models.checkpoint.state_dict_search import find_state_dict  # noqa: E402

SAVERS = {"zip": made.save_zip, "legacy": made.save_legacy}
FUZZER = Path(__file__).parents[2] / "scripts" / "fuzz_checkpoints.py"


def equal(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    if isinstance(other, torch.device | torch.dtype):
        return bool(one == str(other))
    return bool(one == other)


@pytest.mark.parametrize("container", SAVERS)
@pytest.mark.parametrize("name", ["best", "model.pth.tar", "x.safetensors", "model.th"])
def test_content_is_read_as_it_was_saved_under_any_name(
    container: str, name: str, tmp_path: Path
) -> None:
    content = made.training_content()
    read = read_checkpoint(read_checkpoint_info(SAVERS[container](tmp_path / name, content)))
    assert equal(read, content)


def test_tensors_come_plain_and_detached(tmp_path: Path) -> None:
    state = made.small_network().state_dict(keep_vars=True)
    read = read_checkpoint(read_checkpoint_info(made.save_zip(tmp_path / "x", state)))
    assert all(type(tensor) is torch.Tensor for tensor in read.values())
    assert not any(tensor.requires_grad for tensor in read.values())
    assert made.small_network().load_state_dict(read).missing_keys == []


def test_attributes_of_tensors_and_dicts_are_left_behind(tmp_path: Path) -> None:
    tensor = torch.ones(2)
    tensor.float = 5
    read = read_checkpoint(read_checkpoint_info(made.save_zip(tmp_path / "x", {"a": tensor})))
    assert read["a"].float().tolist() == [1, 1]
    attributes = b"}" + made.text("items") + made.number(5) + b"sb"
    body = made.named("collections.OrderedDict") + b")R" + made.text("a") + b"Ns" + attributes
    path = made.zip_around(tmp_path / "y", made.whole(body))
    assert list(read_checkpoint(read_checkpoint_info(path)).items()) == [("a", None)]


@pytest.mark.parametrize("container", SAVERS)
def test_files_saved_on_cuda_are_read_on_a_cpu(container: str, tmp_path: Path) -> None:
    stored = np.arange(4, dtype=np.float32).tobytes()
    place = made.text("cuda:1")
    if container == "zip":
        body = made.tensor(made.storage("0", 4).replace(made.text("cpu"), place), (4,), (1,))
        path = made.zip_around(tmp_path / "x", made.state_of(body), {"0": stored})
    else:
        storage = made.legacy_storage("0", 4, "torch.cuda.FloatStorage")
        body = made.tensor(storage.replace(made.text("cpu"), place), (4,), (1,))
        path = made.legacy_around(tmp_path / "x", made.state_of(body), {"0": (4, stored)})
    read = read_checkpoint(read_checkpoint_info(path))
    assert read["weight"].device.type == "cpu"
    assert read["weight"].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("sharded", [False, True])
def test_safetensors_are_read_whole_and_sharded(sharded: bool, tmp_path: Path) -> None:
    state = made.small_network().state_dict()
    path = (
        made.save_sharded(tmp_path, state)
        if sharded
        else made.save_safetensors(tmp_path / "x", state)
    )
    info = read_checkpoint_info(path)
    read = read_checkpoint(info)
    assert list(read) == list(info.content)
    assert equal(read, dict(state))


@pytest.mark.parametrize("container", SAVERS)
def test_tensors_are_as_the_header_has_them(container: str, tmp_path: Path) -> None:
    info = read_checkpoint_info(SAVERS[container](tmp_path / "x", made.training_content()))
    read = read_checkpoint(info)
    for name, saved in info.content["state_dict"].items():
        tensor = read["state_dict"][name]
        assert (str(tensor.dtype), tuple(tensor.shape)) == (f"torch.{saved.dtype}", saved.shape)


@pytest.mark.parametrize("container", SAVERS)
def test_objects_of_other_classes_are_data(container: str, tmp_path: Path) -> None:
    content = {
        "args": argparse.Namespace(model="resnet18", folder=Path("runs")),
        "count": collections.defaultdict(int, cat=2),
        "accuracy": np.float64(0.5),
        "epoch": np.int64(3),
        "weight": torch.ones(2),
    }
    read = read_checkpoint(read_checkpoint_info(SAVERS[container](tmp_path / "x", content)))
    assert read["args"].kind == "argparse.Namespace"
    assert read["args"].state["model"] == "resnet18"
    assert read["args"].state["folder"].kind.startswith("pathlib")
    assert read["count"] == {"cat": 2}
    assert (read["accuracy"], read["epoch"]) == (0.5, 3)
    assert read["weight"].tolist() == [1, 1]


ARRAYS = {
    "float32": np.linspace(0, 1, 70_000, dtype=np.float32).reshape(100, 700),
    "by column": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "float16": np.arange(3).astype(np.float16),
    "int64": np.arange(5),
    "uint8": np.arange(200, dtype=np.uint8),
    "bool": np.array([True, False]),
    "empty": np.zeros((0, 4), np.float32),
    "scalar": np.array(2.5),
    "strided": np.arange(12.0)[::3],
}


@pytest.mark.parametrize("protocol", range(2, 6))
@pytest.mark.parametrize("bare", [False, True])
def test_arrays_of_numpy_become_tensors(protocol: int, bare: bool, tmp_path: Path) -> None:
    path = tmp_path / "x"
    if bare:
        path.write_bytes(pickle.dumps(ARRAYS, protocol=protocol))
    else:
        torch.save(ARRAYS, path, pickle_protocol=protocol)
    read = read_checkpoint(read_checkpoint_info(path))
    for name, array in ARRAYS.items():
        assert equal(read[name], torch.from_numpy(array.copy())), name
    trusted = read_checkpoint(read_checkpoint_info(path), trust=True)
    assert all(torch.equal(trusted[name], read[name]) for name in ARRAYS)


def test_an_array_of_the_other_byte_order_is_an_unknown_object(tmp_path: Path) -> None:
    info = read_checkpoint_info(made.save_zip(tmp_path / "x", {"a": np.arange(3).astype(">f4")}))
    assert info.content["a"].kind == "numpy.ndarray"


@pytest.mark.parametrize("protocol", range(3, 6))
def test_tensors_that_pickle_itself_wrote_are_read(protocol: int, tmp_path: Path) -> None:
    whole = torch.arange(12.0).reshape(3, 4)
    state = {"weight": whole, "view": whole[1:, ::2].t(), "half": torch.ones(2).half()}
    (tmp_path / "x").write_bytes(pickle.dumps(state, protocol=protocol))
    info = read_checkpoint_info(tmp_path / "x")
    assert info.format == "pickle"
    assert equal(read_checkpoint(info), state)


def test_views_of_legacy_storages_start_where_they_did(tmp_path: Path) -> None:
    content = {"a": torch.arange(10.0)[3:7], "b": torch.arange(10.0).reshape(2, 5).t()}
    read = read_checkpoint(read_checkpoint_info(made.save_legacy(tmp_path / "x", content)))
    assert equal(read, content)


@pytest.mark.parametrize("container", SAVERS)
def test_whole_modules_are_data_and_run_only_with_trust(container: str, tmp_path: Path) -> None:
    network = made.small_network().eval()
    info = read_checkpoint_info(SAVERS[container](tmp_path / "x", network))
    state = find_state_dict(read_checkpoint(info)).state
    assert equal(dict(state), dict(network.state_dict()))
    read = read_checkpoint(info, trust=True)
    images = torch.rand(2, 3, 8, 8)
    assert torch.equal(read(images), network(images))


@pytest.mark.parametrize("container", SAVERS)
def test_a_method_in_place_of_its_result_holds_the_network(container: str, tmp_path: Path) -> None:
    network = made.small_network()
    info = read_checkpoint_info(SAVERS[container](tmp_path / "x", network.state_dict))
    assert info.whole_module == "torch.nn.modules.container.Sequential"
    state = find_state_dict(read_checkpoint(info)).state
    assert equal(dict(state), dict(network.state_dict()))


class Outer(torch.nn.Module):
    """A network with a class of its own within."""

    class Inner(torch.nn.Linear):
        pass

    def __init__(self) -> None:
        super().__init__()
        self.layer = Outer.Inner(3, 2)
        self.method = self.layer.reset_parameters


@pytest.mark.parametrize("container", SAVERS)
def test_classes_within_classes_and_methods_are_data(container: str, tmp_path: Path) -> None:
    network = Outer()
    info = read_checkpoint_info(SAVERS[container](tmp_path / "x", network))
    assert info.content.state["_modules"]["layer"].kind == f"{__name__}.Outer.Inner"
    state = find_state_dict(read_checkpoint(info)).state
    assert equal(dict(state), dict(network.state_dict()))


def test_a_trusted_module_whose_class_is_absent_says_so(tmp_path: Path) -> None:
    body = made.named("absent_nets.Net") + b")\x81}" + made.text("_modules") + b"}s"
    body += made.text("_parameters") + b"}sb"
    info = read_checkpoint_info(made.zip_around(tmp_path / "x", made.whole(body)))
    with pytest.raises(CheckpointError, match='No module named \'absent.*arch="FILE.py:Net"'):
        read_checkpoint(info, trust=True)


@pytest.mark.slow
def test_a_trusted_module_finds_its_class_beside_the_file(tmp_path: Path) -> None:
    for number in (1, 2):  # the second is not given the first one's class
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "own_nets.py").write_text(
            f"import torch\n\nclass Net(torch.nn.Identity):\n    number = {number}\n"
        )
        save = "import torch, own_nets; torch.save(own_nets.Net(), 'x.pth')"
        subprocess.run([sys.executable, "-c", save], cwd=folder, check=True)
        read = read_checkpoint(read_checkpoint_info(folder / "x.pth"), trust=True)
        assert read.number == number
    assert str(tmp_path / "1") not in sys.path


def test_programs_are_run_only_with_trust(tmp_path: Path) -> None:
    network, images = made.small_network().eval(), torch.rand(2, 3, 8, 8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(network, images).save(tmp_path / "script.pt")
        torch.export.save(torch.export.export(network, (images,)), tmp_path / "program.pt2")
    for name, kind in (("script.pt", "TorchScript"), ("program.pt2", "an exported program")):
        info = read_checkpoint_info(tmp_path / name)
        with pytest.raises(CheckpointError, match=f"{kind}.*torch.save.*trust=True"):
            check_no_program(info)
        read = read_checkpoint(info, trust=True)
        torch.testing.assert_close(read(images), network(images))
    state = find_state_dict(read_checkpoint(read_checkpoint_info(tmp_path / "script.pt"))).state
    assert equal(dict(state), dict(network.state_dict()))


def test_big_endian_files_are_refused(tmp_path: Path) -> None:
    saved = made.save_zip(tmp_path / "x", {"a": torch.ones(2)})

    def change(entry: zipfile.ZipInfo, body: bytes) -> tuple[str, bytes]:
        return entry.filename, b"big" if entry.filename.endswith("byteorder") else body

    with pytest.raises(CheckpointError, match="big-endian"):
        read_checkpoint_info(made.rewrite_zip(saved, tmp_path / "y", change))


def test_old_torch_is_not_given_pickles(monkeypatch: pytest.MonkeyPatch) -> None:
    demand_safe_pickles(Path("best.pth"))
    monkeypatch.setattr(torch, "__version__", "2.9.1+cpu")
    with pytest.raises(MissingDependency, match=r"best.pth is a pickled file.*torch>=2\.10"):
        demand_safe_pickles(Path("best.pth"))


@pytest.mark.parametrize("save", [*SAVERS.values(), made.save_safetensors])
def test_checkpoints_are_read_with_old_torch(
    save: Callable[[Path, Any], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = read_checkpoint_info(save(tmp_path / "x", {"a": torch.ones(2)}))
    monkeypatch.setattr(torch, "__version__", "2.4.0")
    assert read_checkpoint(info)["a"].tolist() == [1, 1]


def test_a_file_that_changed_since_is_refused(tmp_path: Path) -> None:
    path = made.save_zip(tmp_path / "x", {"a": torch.ones(2)})
    info = read_checkpoint_info(path)
    made.save_zip(path, {"a": torch.ones(2000)})
    with pytest.raises(CheckpointError, match="it changed while"):
        read_checkpoint(info)
    path.unlink()
    with pytest.raises(CheckpointError, match="there is no such file"):
        read_checkpoint(info)


def test_parameters_of_old_files_are_tensors(tmp_path: Path) -> None:
    inner = made.tensor(made.legacy_storage("0", 2), (2,), (1,))
    hooks = made.named("collections.OrderedDict") + b")R"
    body = made.named("torch.nn.parameter.Parameter") + inner + b"\x85R(\x88\x89" + hooks + b"tb"
    stored = {"0": (2, np.ones(2, np.float32).tobytes())}
    info = read_checkpoint_info(made.legacy_around(tmp_path / "x", made.state_of(body), stored))
    assert info.content["weight"].shape == (2,)
    assert read_checkpoint(info)["weight"].tolist() == [1, 1]


def test_tensors_that_hold_no_numbers_are_named() -> None:
    state = {
        "fine": torch.tensor([1.0, 2.0]),
        "large": torch.full((4,), 3e38),
        "nan": torch.tensor([1.0, float("nan")]),
        "both": torch.tensor([float("inf"), -float("inf")]),
        "half": torch.tensor([float("inf")], dtype=torch.float16),
        "eighth": torch.tensor([float("nan")]).to(torch.float8_e4m3fn),
        "count": torch.tensor(3),
        "empty": torch.ones(0),
    }
    assert non_finite_names(state) == ("nan", "both", "half", "eighth")


def damaged(body: bytes, *, flips: int) -> list[bytes]:
    """Cut at each 5 %, and with single bits flipped."""
    chance = random.Random(0)
    pieces = [body[: len(body) * percent // 100] for percent in range(0, 100, 5)]
    for _ in range(flips):
        changed = bytearray(body)
        changed[chance.randrange(len(body))] ^= 1 << chance.randrange(8)
        pieces.append(bytes(changed))
    return pieces


def check_damage(save: Callable[[Path, Any], Path], folder: Path, *, flips: int) -> None:
    state = dict(made.small_network().state_dict())
    body = save(folder / "whole", state).read_bytes()
    read = 0
    for number, piece in enumerate(damaged(body, flips=flips)):
        path = folder / "piece"
        path.write_bytes(piece)
        try:
            content = read_checkpoint(read_checkpoint_info(path))
        except CheckpointError:
            continue
        read += 1
        assert number >= 20, "a file that was cut was read"
        if save is made.save_zip:
            assert equal(content, state)
    assert read < flips or save is not made.save_zip


@pytest.mark.parametrize("save", [made.save_zip, made.save_legacy, made.save_safetensors])
def test_damage_is_found_or_harmless(save: Callable[[Path, Any], Path], tmp_path: Path) -> None:
    check_damage(save, tmp_path, flips=60)


@pytest.mark.slow
@pytest.mark.parametrize("save", [made.save_zip, made.save_legacy, made.save_safetensors])
def test_much_damage_is_found_or_harmless(
    save: Callable[[Path, Any], Path], tmp_path: Path
) -> None:
    check_damage(save, tmp_path, flips=2000)


@pytest.mark.slow
def test_300_damaged_files_end_without_a_crash_or_a_hang() -> None:
    answer = subprocess.run(
        [sys.executable, str(FUZZER), "--files", "300", "--seed", "7"],
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "300 files: no crash, no hang, no foreign exception" in answer.stdout


@pytest.mark.shared_data
def test_a_real_checkpoint_of_2018_is_read(shared_data: Path) -> None:
    info = read_checkpoint_info(shared_data / "checkpoints" / "resnet20-12fca82f.th")
    read = read_checkpoint(info)
    assert read["state_dict"].keys() == info.content["state_dict"].keys()
    assert sum(tensor.numel() for tensor in read["state_dict"].values()) > 269_000
    assert non_finite_names(read["state_dict"]) == ()
