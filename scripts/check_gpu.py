"""Check on a GPU what a machine without one cannot: parity, memory and speed, in under 8 minutes.

    python scripts/check_gpu.py [--out gpu.json] [--photos FOLDER] [--device cuda] [--seconds 460]
    python scripts/check_gpu.py --small --device cpu    the same on a few images, to try it

Needs the extra `all`. Each part runs in a process of its own, within its own time; what it has
found by then is kept whatever becomes of it. Networks have random weights of fixed seeds; photos
are those of `shared/data`, where that is, or drawn. Writes JSON; the exit status is 1 where
something is not as it should be.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import platform
import queue
import resource
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
SUFFIXES = (".jpg", ".jpeg", ".png")
NETWORKS = (
    *("resnet18", "resnet50", "tf_efficientnet_lite0", "efficientnet_b0", "mobilenetv3_large_100"),
    *("convnext_tiny", "vit_base_patch16_224", "swin_tiny_patch4_window7_224", "regnety_032"),
    *("densenet121", "mixer_b16_224", "coatnet_0_rw_224"),
)
CLASSES = 1000
LIMITS = {"machine": 40, "parity": 120, "speed": 210, "run": 90, "memory": 60}  # seconds
TOLERANCE = 1e-4  # of logits, for each unit of their spread

Facts = Iterator[tuple[str, Any]]


def main() -> int:
    """Run all parts, or one of them in this process; returns the exit status."""
    asked = _arguments()
    if asked.part:
        for name, value in PARTS[asked.part](asked):
            print(json.dumps({name: value}), flush=True)
        return 0
    began, found = time.monotonic(), dict[str, Any]()
    for part, seconds in LIMITS.items():
        limit = seconds * asked.patience
        left = asked.seconds - (time.monotonic() - began)
        print(f"--- {part}: at most {min(limit, left):.0f} s", flush=True)
        found[part] = _in_child(part, min(limit, left)) if left > 5 else {"skipped": "no time left"}
        asked.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    wrong = list(_wrong(found))
    found["seconds"], found["wrong"] = round(time.monotonic() - began, 1), wrong
    asked.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(*(f"WRONG: {line}" for line in wrong), f"written to {asked.out}", sep="\n")
    return int(bool(wrong))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("gpu.json"))
    parser.add_argument("--photos", type=Path, help="a folder of photos")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seconds", type=float, help="for all of it; by default 460")
    parser.add_argument("--small", action="store_true", help="a few images and networks")
    parser.add_argument("--part", choices=LIMITS, help="only this, in this process")
    asked = parser.parse_args()
    asked.batch = 8 if asked.small else 64
    asked.patience = 4 if asked.small else 1  # a machine without a GPU is slow
    asked.seconds = asked.seconds or 460 * asked.patience
    return asked


def _in_child(part: str, seconds: float) -> dict[str, Any]:
    """What a part found, in a process that is ended after so many seconds."""
    found: dict[str, Any] = {}
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "PYTHONUNBUFFERED": "1"}
    child = subprocess.Popen(
        [sys.executable, __file__, *sys.argv[1:], "--part", part],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,  # with its own children, it can be ended
    )
    lines: queue.Queue[str | None] = queue.Queue()
    assert child.stdout is not None
    threading.Thread(target=_pass_on, args=(child.stdout, lines), daemon=True).start()
    until = time.monotonic() + seconds
    try:
        while (line := lines.get(timeout=max(0.01, until - time.monotonic()))) is not None:
            if not line.startswith(('{"images/s"', '{"shares"')):
                print(f"{part}: {line.rstrip()[:200]}", flush=True)
            if line.startswith("{"):
                found |= json.loads(line)
        if child.wait(10) != 0:
            found["failed"] = f"status {child.returncode}"
    except (queue.Empty, subprocess.TimeoutExpired):
        found["failed"] = f"not done within {seconds:.0f} s"
        print(f"{part}: {found['failed']}", flush=True)
    finally:
        _end(child)
    return found


def _pass_on(stream: Any, lines: queue.Queue[str | None]) -> None:
    for line in stream:
        lines.put(line)
    lines.put(None)


def _end(child: subprocess.Popen[str]) -> None:
    if child.poll() is None:
        os.killpg(child.pid, 9)
        child.wait()


def _wrong(found: dict[str, Any]) -> Iterator[str]:
    """What is not as it should be, a line each."""
    for part, facts in found.items():
        for name in ("failed", "skipped"):
            if name in facts:
                yield f"{part}: {facts[name]}"
        for name, value in facts.items():
            if isinstance(value, dict) and "error" in value:
                yield f"{part}, {name}: {value['error']}"
            if isinstance(value, dict) and value.get("holds") is False:
                yield f"{part}, {name}: {value}"


def guarded(work: Callable[[], Any]) -> Any:
    """What it returns; where it fails, its error, so that the others go on."""
    try:
        return work()
    except Exception as error:
        traceback.print_exc()
        return {"error": f"{type(error).__name__}: {error}"[:300]}


# --- Material


def find_photos(asked: argparse.Namespace, count: int, folder: Path) -> list[str]:
    """So many photos, the found ones over and again; drawn into a folder where there are none."""
    places = [asked.photos] if asked.photos else []
    for data in (ROOT / "shared" / "data", ROOT.parent / "shared" / "data"):
        places += [data / "imagenet", data / "train"]
    found: list[str] = []
    for place in places:
        files = sorted(p for p in place.rglob("*") if p.suffix.lower() in SUFFIXES)
        found += [str(path) for path in files]
    found = found or draw_photos(folder, min(count, 200))
    return list(islice(cycle(found), count))


def draw_photos(folder: Path, count: int) -> list[str]:
    """JPEGs of 500 x 375 pixels with soft shapes and some noise."""
    from PIL import Image

    chance, paths = np.random.default_rng(0), []
    for number in range(count):
        coarse = Image.fromarray(chance.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((500, 375), Image.Resampling.BICUBIC), np.int16)
        noisy = smooth + chance.integers(-12, 13, smooth.shape)
        path = folder / f"{number:04d}.jpg"
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(path, quality=90)
        paths.append(str(path))
    return paths


def preprocessing() -> Any:
    """That of ImageNet, for all networks."""
    import toplabel

    return toplabel.Preprocess(
        input_size=(224, 224),
        resize_size=(256, 256),
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
    )


def read_pixels(photos: Sequence[str], preprocess: Any) -> np.ndarray:
    """What networks see of photos before it is normalised: uint8 (N, 224, 224, 3)."""
    from toplabel.image.reading import read_image

    def read(path: str) -> np.ndarray:
        return preprocess.resize_and_crop(read_image(path).pixels)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return np.stack(list(pool.map(read, photos)))


_built: dict[str, Any] = {}


def build(name: str, pixels: np.ndarray, preprocess: Any) -> Any:
    """A copy of a network of timm's whose random weights give each photo its own answer."""
    if name not in _built:
        _built[name] = _build(name, pixels, preprocess)
    return copy.deepcopy(_built[name])


def _build(name: str, pixels: np.ndarray, preprocess: Any) -> Any:
    import torch

    from toplabel.models.zoo_import import import_timm

    torch.manual_seed(0)
    network = import_timm().create_model(name, pretrained=False, num_classes=CLASSES)
    batch = torch.from_numpy(np.stack([preprocess.normalise(one) for one in pixels[:32]]))
    with torch.no_grad():
        network.train()  # for the statistics of batch normalisation
        for module in network.modules():
            if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                module.momentum = None
            if type(module).__name__.startswith(("Dropout", "DropPath")):
                module.eval()
        network(batch)
        head = network.eval().get_classifier()
        head.weight.normal_(std=0.02)
        logits = network(batch)
        head.weight /= logits.std(0).mean()
        head.bias -= network(batch).mean(0)
    return network


def model_of(name: str, network: Any, preprocess: Any) -> Any:
    """It, as engines take it."""
    from toplabel import Labels
    from toplabel.bundle.model import Model

    labels = Labels(tuple(map(str, range(CLASSES))))
    return Model(name=name, module=network, architecture=name, preprocess=preprocess, labels=labels)


def in_batches(
    engine: Callable[[np.ndarray], np.ndarray], batch: np.ndarray, size: int
) -> np.ndarray:
    """Logits of all, by batches of that size; the last is shorter."""
    parts = [engine(batch[at : at + size]) for at in range(0, len(batch), size)]
    return np.concatenate(parts)


# --- Parts


def machine(asked: argparse.Namespace) -> Facts:
    """What it runs on, and that a GPU is found as the commands find it."""
    import torch

    from toplabel._internal.platform import available_cpus, gpu_count

    yield "python", platform.python_version()
    yield "torch", f"{torch.__version__}, CUDA {torch.version.cuda}"
    yield "cores", available_cpus()
    yield "gpus by their devices", gpu_count()
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    yield "gpus by PyTorch", names
    yield "as many", {"holds": gpu_count() == len(names)}


def parity(asked: argparse.Namespace) -> Facts:
    """Each network on 1,000 photos: pixels against eager tensors, and bfloat16 against both."""
    preprocess = preprocessing()
    with tempfile.TemporaryDirectory() as folder:
        count = 12 if asked.small else 1000
        pixels = read_pixels(find_photos(asked, count, Path(folder)), preprocess)
    tensors = np.stack([preprocess.normalise(one) for one in pixels])
    for name in NETWORKS[:3] if asked.small else NETWORKS:
        yield name, guarded(partial(_parity, asked, name, pixels, tensors, preprocess))


def _parity(
    asked: argparse.Namespace, name: str, pixels: np.ndarray, tensors: np.ndarray, preprocess: Any
) -> dict[str, Any]:
    from toplabel.inference.engines.torch import TorchEngine
    from toplabel.inference.engines.torch_pixels import PixelEngine

    model = model_of(name, build(name, pixels, preprocess), preprocess)
    expected = in_batches(TorchEngine(model, device=asked.device), tensors, asked.batch)
    engine = PixelEngine(model, device=asked.device)
    got = in_batches(engine, pixels, asked.batch)
    few = 4 if asked.small else 32
    on_cpu = in_batches(TorchEngine(model, device="cpu"), tensors[:few], asked.batch)
    bfloat16 = PixelEngine(model, device=asked.device, dtype="bfloat16")
    reduced = in_batches(bfloat16, pixels, asked.batch)
    tolerance = TOLERANCE * max(1.0, float(np.ptp(expected, axis=0).max()))
    difference = float(np.abs(got - expected).max())
    from_cpu = float(np.abs(got[:few] - on_cpu).max())
    changed = reduced.argmax(1) != expected.argmax(1)
    first, second = np.sort(reduced, axis=1)[:, :-3:-1].T
    captured = getattr(engine._label, "_captured", {})
    return {
        "photos": len(pixels),
        "difference": difference,
        "difference from the CPU": from_cpu,
        "tolerance": tolerance,
        "labels changed": int((got.argmax(1) != expected.argmax(1)).sum()),
        "bfloat16, labels changed": int(changed.sum()),
        "bfloat16, largest margin of these": float((first - second)[changed].max(initial=0)),
        "bfloat16, largest difference": float(np.abs(reduced - expected).max()),
        "graphs": [tuple(s)[0] for s, f in captured.items() if f is not engine._label._forward],
        "holds": max(difference, from_cpu) <= tolerance,
    }


def run(asked: argparse.Namespace) -> Facts:
    """The command line as a user types it: on the GPU without being told, labels as on the CPU."""
    import torch

    preprocess = preprocessing()
    with tempfile.TemporaryDirectory() as given:
        folder = Path(given)
        (folder / "drawn").mkdir()
        count = 12 if asked.small else 600
        photos = find_photos(asked, count, folder / "drawn")
        network = build("resnet18", read_pixels(photos[:32], preprocess), preprocess)
        torch.save(network.state_dict(), folder / "best.pth")
        (folder / "recipe.json").write_text(preprocess.to_json())
        (folder / "labels.txt").write_text("\n".join(map(str, range(CLASSES))))
        photos = [os.path.abspath(path) for path in photos]
        (folder / "photos.txt").write_text("\n".join(photos))
        links = folder / "many"  # each is an input of its own
        links.mkdir()
        for number, path in enumerate(islice(cycle(photos), count if asked.small else 12_000)):
            (links / f"{number:05d}{Path(path).suffix}").symlink_to(path)
        told = {}
        for name, inputs in (("cpu", "photos.txt"), ("auto", "photos.txt"), ("many", "many")):
            told[name] = _command(folder, "cpu" if name == "cpu" else "auto", inputs, name)
            yield name, told[name]
        cpu, auto = (_records(folder / f"{name}.jsonl") for name in ("cpu", "auto"))
        pairs = list(zip(cpu, auto, strict=True))
        yield (
            "the same labels",
            {
                "images": len(pairs),
                "other labels": sum(a["index"] != b["index"] for a, b in pairs),
                "largest difference of scores": max(abs(a["score"] - b["score"]) for a, b in pairs),
                "holds": all(a["index"] == b["index"] for a, b in pairs),
            },
        )
        on_gpu = "is labelled on cuda" in told["auto"].get("stderr", "")
        expected = asked.device != "cpu" and not asked.small
        yield "on the GPU without being told", {"holds": on_gpu or not expected}


def _command(folder: Path, device: str, inputs: str, name: str) -> dict[str, Any]:
    """One run of the command line: its time with its start, and what it said."""
    command = [sys.executable, "-m", "toplabel", str(folder / inputs)]
    command += ["-m", str(folder / "best.pth"), "--arch", "timm/resnet18", "--device", device]
    command += ["--preprocess", str(folder / "recipe.json"), "--labels", str(folder / "labels.txt")]
    command += ["-o", str(folder / f"{name}.jsonl")]
    environment = {**os.environ, "TOPLABEL_CACHE": str(folder / "cache")}
    began = time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    seconds = round(time.perf_counter() - began, 2)
    if done.returncode:
        return {"error": done.stderr[-300:]}
    return {"seconds": seconds, "stderr": done.stderr[-600:]}


def _records(path: Path) -> list[dict[str, Any]]:
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [json.loads(line) for line in lines]


def memory(asked: argparse.Namespace) -> Facts:
    """50,000 images: memory of the process and of the device does not grow."""
    import torch

    count = 60 if asked.small else 50_000
    with tempfile.TemporaryDirectory() as folder:
        photos = find_photos(asked, 200, Path(folder))
        predictor = _predictor("resnet18", photos, asked, dtype="float32")
        samples, began = [], time.perf_counter()
        for number, prediction in enumerate(predictor.stream(islice(cycle(photos), count)), 1):
            assert prediction.error is None, prediction.error
            if number % (count // 10) == 0:
                used = torch.cuda.memory_reserved() if torch.cuda.is_available() else 0
                samples.append((number, _resident_mb(), used / 1e6))
                yield f"after {number}", {"process MB": samples[-1][1], "device MB": samples[-1][2]}
        seconds = time.perf_counter() - began
    growth = [samples[-1][place] - samples[2][place] for place in (1, 2)]
    yield (
        "growth after the first 30 %",
        {
            "process MB": growth[0],
            "device MB": growth[1],
            "images/s": round(count / seconds, 1),
            "holds": asked.small or (growth[0] < 100 and growth[1] < 50),
        },
    )


def _resident_mb() -> float:
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return round(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, 1)
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def _predictor(name: str, photos: Sequence[str], asked: argparse.Namespace, *, dtype: Any) -> Any:
    import toplabel

    preprocess = preprocessing()
    network = build(name, read_pixels(photos[:32], preprocess), preprocess)
    labels = [str(number) for number in range(CLASSES)]
    return toplabel.wrap(
        network, preprocess=preprocess, labels=labels, device=asked.device, dtype=dtype, exact=True
    )


def speed(asked: argparse.Namespace) -> Facts:
    """Images a second of ResNet-50, against others and against decoding and computing alone."""
    count = 12 if asked.small else 6000
    with tempfile.TemporaryDirectory() as folder:
        photos = find_photos(asked, 200, Path(folder))
        many = list(islice(cycle(photos), count))
        best: dict[str, float] = {}
        ready: dict[str, Any] = {}
        for turn in range(1 if asked.small else 3):
            for name, make in CONTENDERS.items():
                if name not in ready:
                    began = time.perf_counter()
                    ready[name] = guarded(partial(make, asked, photos))
                    yield f"{name}, seconds until ready", round(time.perf_counter() - began, 1)
                if isinstance(ready[name], dict):
                    yield name, ready[name]
                    continue
                given = many[: count // 3] if name in SLOW else many
                rate = guarded(partial(_rate, ready[name], given))
                yield f"{name}, turn {turn + 1}", rate
                if isinstance(rate, float):
                    best[name] = max(best.get(name, 0.0), rate)
                yield "images/s", best
                yield "shares", _shares(best)


def _rate(label: Callable[[Sequence[str]], int], photos: Sequence[str]) -> float:
    began = time.perf_counter()
    answered = label(photos)
    assert answered == len(photos), f"{answered} answers for {len(photos)} photos"
    return round(len(photos) / (time.perf_counter() - began), 1)


def _shares(best: dict[str, float]) -> dict[str, float]:
    """Of the smaller of decoding and computing, and of each of the others."""
    found = {}
    for dtype, limit in (("float32",) * 2, ("bfloat16",) * 2, ("fast", "bfloat16")):
        ours, decode = best.get(f"toplabel, {dtype}"), best.get("decoding alone")
        compute = best.get(f"computing alone, {limit}")
        if ours and decode and compute:
            found[f"{dtype}: of min(decode, {limit})"] = round(ours / min(decode, compute), 3)
        for rival in ("timm, compiled, bfloat16", "torch.utils.data", "Hugging Face's pipeline"):
            if ours and rival in best:
                found[f"{dtype}: against {rival}"] = round(ours / best[rival], 2)
    return found


def _toplabel(dtype: str, asked: argparse.Namespace, photos: Sequence[str]) -> Any:
    predictor = _predictor("resnet50", photos, asked, dtype=dtype)

    def label(given: Sequence[str]) -> int:
        return sum(one.error is None for one in predictor.stream(given))

    label(list(photos[: 2 * asked.batch]))  # graphs are captured
    return label


def _fast(asked: argparse.Namespace, photos: Sequence[str]) -> Any:
    """With `fast`: bfloat16 where the label is clear; says what share was computed again."""
    from toplabel.inference.predictor import SAMPLE_IMAGES, Predictor

    classifier = _predictor("resnet50", photos, asked, dtype="float32").classifier
    classifier = replace(classifier, gpu=asked.device)
    predictor = Predictor(classifier, fast=True)
    again: list[float] = []

    def label(given: Sequence[str]) -> int:
        found = list(predictor.stream(list(given)))
        again[:] = [sum(one.precision is None for one in found) / len(found)]
        print(f"computed again: {again[0]:.1%} by {predictor.reduced}", flush=True)
        return sum(one.error is None for one in found)

    warm = 2 * asked.batch if asked.small else SAMPLE_IMAGES + 300
    label(list(islice(cycle(photos), warm)))
    return label


def _decoding(asked: argparse.Namespace, photos: Sequence[str]) -> Any:
    """Reading, resizing and cropping by the same threads, for an engine that does nothing."""
    predictor = _predictor("resnet18", photos, asked, dtype="float32")
    preprocess = predictor.preprocess

    class Nothing:
        name, device, normalises = "torch", "cuda:0", preprocess

        def __call__(self, batch: np.ndarray) -> np.ndarray:
            return np.tile(np.arange(CLASSES, dtype=np.float32), (len(batch), 1))

    nothing = Nothing()
    classifier = replace(
        predictor.classifier, open_engine=lambda threads, features=False: nothing, parallel=True
    )
    from toplabel.inference.predictor import Predictor

    idle = Predictor(classifier, exact=True, sanity_checks=False)
    return lambda given: sum(one.error is None for one in idle.stream(given))


def _computing(dtype: str, asked: argparse.Namespace, photos: Sequence[str]) -> Any:
    """The engine alone, with pixels that are ready, called by two threads."""
    from toplabel.inference.engines.torch_pixels import PixelEngine

    preprocess = preprocessing()
    pixels = read_pixels(photos[: asked.batch], preprocess)
    batch = np.resize(pixels, (asked.batch, *pixels.shape[1:]))
    network = build("resnet50", pixels, preprocess)
    model = model_of("resnet50", network, preprocess)
    engine = PixelEngine(model, device=asked.device, dtype=dtype)
    engine(batch)

    def label(given: Sequence[str]) -> int:
        every = range(0, len(given), asked.batch)
        sizes = [min(asked.batch, len(given) - at) for at in every]
        with ThreadPoolExecutor(2) as pool:
            return sum(len(rows) for rows in pool.map(lambda size: engine(batch[:size]), sizes))

    return label


def _timm(asked: argparse.Namespace, photos: Sequence[str]) -> Any:
    """The inference script of timm: its loader with a prefetcher, a compiled model, bfloat16."""
    import torch

    from toplabel.models.zoo_import import import_timm

    import_timm()
    from timm.data import create_loader

    device = torch.device(asked.device)
    network = build("resnet50", read_pixels(photos[:32], preprocessing()), preprocessing())
    network = network.to(device, memory_format=torch.channels_last)
    network = network if asked.small else torch.compile(network)

    def label(given: Sequence[str]) -> int:
        loader = create_loader(
            _Files(given),
            input_size=(3, 224, 224),
            batch_size=asked.batch,
            use_prefetcher=device.type == "cuda",
            is_training=False,
            num_workers=os.cpu_count(),
            interpolation="bilinear",
            mean=(0.485, 0.456, 0.406),
            std=(0.229, 0.224, 0.225),
            crop_pct=0.875,
            device=device,
        )
        answered = 0
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16):
            for batch, _ in loader:
                batch = batch.to(device).contiguous(memory_format=torch.channels_last)
                answered += len(network(batch).float().softmax(-1).topk(5).indices.tolist())
        return answered

    label(list(photos[: 2 * asked.batch]))  # compiles
    return label


class _Files:
    """A dataset of files, as PIL images, for timm's loader."""

    def __init__(self, paths: Sequence[str], transform: Any = None) -> None:
        self.paths, self.transform, self.target_transform = paths, transform, None

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, place: int) -> tuple[Any, int]:
        from PIL import Image

        with Image.open(self.paths[place]) as image:
            picture = image.convert("RGB")
        return (picture if self.transform is None else self.transform(picture)), 0


def _data_loader(asked: argparse.Namespace, photos: Sequence[str]) -> Any:
    """torch.utils.data with a worker for each core, torchvision's transforms, eager PyTorch."""
    import torch

    from toplabel.models.zoo_import import import_torchvision

    transforms = import_torchvision().transforms
    steps = [transforms.Resize(256), transforms.CenterCrop(224), transforms.ToTensor()]
    steps.append(transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    device = torch.device(asked.device)
    network = build("resnet50", read_pixels(photos[:32], preprocessing()), preprocessing())
    network = network.to(device, memory_format=torch.channels_last)

    def label(given: Sequence[str]) -> int:
        loader = torch.utils.data.DataLoader(
            _Files(given, transforms.Compose(steps)),  # type: ignore[arg-type]
            batch_size=asked.batch,
            num_workers=os.cpu_count() or 1,
            pin_memory=device.type == "cuda",
        )
        answered = 0
        with torch.inference_mode():
            for batch, _ in loader:
                batch = batch.to(device, non_blocking=True, memory_format=torch.channels_last)
                answered += len(network(batch).softmax(-1).topk(5).indices.tolist())
        return answered

    label(list(photos[: asked.batch]))
    return label


def _pipeline(asked: argparse.Namespace, photos: Sequence[str]) -> Any:
    """Hugging Face's pipeline, with batches and a worker for each core."""
    from toplabel.models.zoo_import import declare_missing_operators

    kept = declare_missing_operators()  # as long as it is held
    import torch
    import transformers

    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model("resnet", num_labels=CLASSES)
    processor = transformers.ConvNextImageProcessor(size={"shortest_edge": 224}, crop_pct=0.875)
    classify = transformers.pipeline(
        "image-classification",
        model=transformers.ResNetForImageClassification(config).eval(),
        image_processor=processor,
        device=torch.device(asked.device),
    )

    def label(given: Sequence[str]) -> int:
        assert kept is None or kept
        workers = os.cpu_count() or 1
        return len(classify(list(given), top_k=5, batch_size=asked.batch, num_workers=workers))

    label(photos[: asked.batch])
    return label


CONTENDERS: dict[str, Callable[[argparse.Namespace, Sequence[str]], Any]] = {
    "decoding alone": _decoding,
    "computing alone, float32": partial(_computing, "float32"),
    "computing alone, bfloat16": partial(_computing, "bfloat16"),
    "toplabel, float32": partial(_toplabel, "float32"),
    "toplabel, bfloat16": partial(_toplabel, "bfloat16"),
    "toplabel, fast": _fast,
    "torch.utils.data": _data_loader,
    "Hugging Face's pipeline": _pipeline,
    "timm, compiled, bfloat16": _timm,
}
SLOW = ("Hugging Face's pipeline",)
PARTS: dict[str, Callable[[argparse.Namespace], Facts]] = {
    "machine": machine,
    "parity": parity,
    "run": run,
    "memory": memory,
    "speed": speed,
}

if __name__ == "__main__":
    sys.exit(main())
