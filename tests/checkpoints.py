"""Makes checkpoint files of every format, and hostile ones, for tests and the fuzzer."""

import io
import json
import pickle
import struct
import tarfile
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
DEVICES = "cuda:0"


def small_network() -> nn.Sequential:
    """Three classes, 8x8 RGB or larger."""
    torch.manual_seed(0)
    return nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(3, 4, 3),
            norm=nn.BatchNorm2d(4),
            pool=nn.AdaptiveAvgPool2d(1),
            flat=nn.Flatten(),
            head=nn.Linear(4, 3),
        )
    )


def training_content() -> dict[str, Any]:
    """What a training script saves: plain values, tensors and an optimizer's state."""
    network = small_network()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    network(torch.rand(2, 3, 8, 8)).sum().backward()
    optimizer.step()
    return {
        "epoch": 3,
        "best_prec1": 91.25,
        "arch": "small",
        "classes": ["cat", "dog", "owl"],
        "shape": torch.Size([3, 8, 8]),
        "device": torch.device("cuda:0"),
        "dtype": torch.float16,
        "done": {1, 2},
        "state_dict": network.state_dict(),
        "optimizer": optimizer.state_dict(),
    }


def save_zip(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


def save_legacy(path: Path, content: Any) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=False)
    return path


def save_safetensors(path: Path, state: Mapping[str, torch.Tensor]) -> Path:
    save_file(dict(state), path, metadata={"format": "pt"})
    return path


def save_sharded(folder: Path, state: Mapping[str, torch.Tensor]) -> Path:
    """Two shards and their index, which is returned."""
    names = list(state)
    halves = names[: len(names) // 2], names[len(names) // 2 :]
    places = {}
    for number, half in enumerate(halves, start=1):
        file = f"model-{number:05}-of-00002.safetensors"
        save_safetensors(folder / file, {name: state[name] for name in half})
        places.update(dict.fromkeys(half, file))
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": places}))
    return index


def save_tar(path: Path, main_pickle: bytes) -> Path:
    """The format of torch before 2017, with one empty tensor list."""
    members = {
        "sys_info": pickle.dumps({"little_endian": True}, 2),
        "pickle": main_pickle,
        "tensors": pickle.dumps(0, 2),
        "storages": pickle.dumps(0, 2),
    }
    with tarfile.open(path, "w:") as archive:
        for name, body in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(body)
            archive.addfile(entry, io.BytesIO(body))
    return path


def zip_around(
    path: Path,
    main_pickle: bytes,
    storages: Mapping[str, bytes] | None = None,
    *,
    compression: int = zipfile.ZIP_STORED,
) -> Path:
    """A torch zip whose pickle is written by hand."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", main_pickle)
        archive.writestr("archive/byteorder", b"little")
        for key, body in (storages or {}).items():
            archive.writestr(f"archive/data/{key}", body)
        archive.writestr("archive/version", b"3\n")
    return path


def legacy_around(
    path: Path, main_pickle: bytes, storages: Mapping[str, tuple[int, bytes]] | None = None
) -> Path:
    """A legacy file whose pickle is written by hand; storages: number of elements, bytes."""
    storages = storages or {}
    parts = [
        pickle.dumps(LEGACY_MAGIC, 2),
        pickle.dumps(1001, 2),
        pickle.dumps({"protocol_version": 1001, "little_endian": True, "type_sizes": {}}, 2),
        main_pickle,
        pickle.dumps(list(storages), 2),
        *(struct.pack("<q", count) + body for count, body in storages.values()),
    ]
    path.write_bytes(b"".join(parts))
    return path


# Pickles by hand: each piece is what stands between the protocol and the final stop.


def text(value: str) -> bytes:
    raw = value.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def number(value: int) -> bytes:
    raw = value.to_bytes(9, "little", signed=True)
    return b"\x8a\x09" + raw


def named(name: str) -> bytes:
    module, _, attribute = name.rpartition(".")
    return f"c{module}\n{attribute}\n".encode()


def numbers(values: tuple[int, ...]) -> bytes:
    return b"(" + b"".join(map(number, values)) + b"t"


def whole(body: bytes, protocol: int = 2) -> bytes:
    return bytes([0x80, protocol]) + body + b"."


def storage(key: str, count: int, kind: str = "torch.FloatStorage") -> bytes:
    return b"(" + text("storage") + named(kind) + text(key) + text("cpu") + number(count) + b"tQ"


def legacy_storage(key: str, count: int, kind: str = "torch.FloatStorage") -> bytes:
    return storage(key, count, kind)[:-2] + b"NtQ"


def tensor(
    stored: bytes, shape: tuple[int, ...], strides: tuple[int, ...], *, offset: int = 0
) -> bytes:
    """A call of `_rebuild_tensor_v2`."""
    arguments = stored + number(offset) + numbers(shape) + numbers(strides)
    hooks = named("collections.OrderedDict") + b")R"
    return named("torch._utils._rebuild_tensor_v2") + b"(" + arguments + b"\x89" + hooks + b"tR"


def state_of(body: bytes) -> bytes:
    """A state dict with one entry."""
    return whole(b"}" + text("weight") + body + b"s")


def gadgets(marker: Path) -> dict[str, tuple[str, bytes]]:
    """Pickles that would make `marker`: name -> (the global to be named, the body)."""
    command = f"touch {marker}"
    code = text(f"__import__('os').system({command!r})")
    in_dict = b"}" + text("state_dict") + b"}" + text("w")
    popen = named("subprocess.Popen") + b"]" + text("touch") + b"a" + text(str(marker)) + b"a\x85"
    getter = named("builtins.getattr")
    return {
        "reduce": ("os.system", named("os.system") + text(command) + b"\x85R"),
        "posix": ("posix.system", named("posix.system") + text(command) + b"\x85R"),
        "eval": ("builtins.eval", named("builtins.eval") + code + b"\x85R"),
        "python2": ("builtins.eval", named("__builtin__.eval") + code + b"\x85R"),
        "exec": ("builtins.exec", named("builtins.exec") + code + b"\x85R"),
        "obj": ("os.system", b"(" + named("os.system") + text(command) + b"o"),
        "inst": ("os.system", b"(" + text(command) + b"ios\nsystem\n"),
        "newobj": ("subprocess.Popen", popen + b"\x81"),
        "newobj_ex": ("subprocess.Popen", popen + b"}\x92"),
        "build": (
            "os.system",
            named("nets.Net")
            + b")\x81}"
            + text("__setstate__")
            + named("os.system")
            + b"sb"
            + text(command)
            + b"b",
        ),
        "nested": ("os.system", in_dict + named("os.system") + text(command) + b"\x85Rss"),
        "popped": ("os.system", named("os.system") + text(command) + b"\x85R0}"),
        "as_key": ("os.system", b"}" + named("os.system") + text(command) + b"\x85RNs"),
        "getattr": (
            "builtins.__import__",
            getter
            + named("builtins.__import__")
            + text("os")
            + b"\x85R"
            + text("system")
            + b"\x86R"
            + text(command)
            + b"\x85R",
        ),
        "stack_global": (
            "os.system",
            text("os") + text("system") + b"\x93" + text(command) + b"\x85R",
        ),
        "in_ordered_dict": (
            "os.system",
            named("collections.OrderedDict")
            + b")R"
            + text("a")
            + named("os.system")
            + text(command)
            + b"\x85Rs",
        ),
        "in_state_of_ordered_dict": (
            "os.system",
            named("collections.OrderedDict")
            + b")R}"
            + text("_metadata")
            + named("os.system")
            + text(command)
            + b"\x85Rsb",
        ),
        "as_storage": (
            "os.system",
            b"("
            + text("storage")
            + named("os.system")
            + text(command)
            + b"\x85R"
            + text("0")
            + text("cpu")
            + number(1)
            + b"tQ",
        ),
        "runpy": ("runpy._run_code", named("runpy._run_code") + code + b"}\x86R"),
        "webbrowser": ("webbrowser.open", named("webbrowser.open") + text("x") + b"\x85R"),
    }


#: How to put a pickle into a file of each format.
CONTAINERS: dict[str, Callable[[Path, bytes], Path]] = {
    "zip": zip_around,
    "legacy": legacy_around,
    "raw": lambda path, body: _write(path, body),
    "tar": save_tar,
}


def _write(path: Path, body: bytes) -> Path:
    path.write_bytes(body)
    return path


def rewrite_zip(
    source: Path, target: Path, change: Callable[[zipfile.ZipInfo, bytes], tuple[str, bytes] | None]
) -> Path:
    """`source` with members renamed, changed or left out (None)."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for entry in old.infolist():
            changed = change(entry, old.read(entry))
            if changed is not None:
                new.writestr(*changed)
    return target
