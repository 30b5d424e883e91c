"""The author's own answers: a copy of a repository and its note in, rows of scores out.

    python scripts/strangers_reference.py NOTE.json IMAGES.json ANSWERS.json

Run by scripts/strangers.py in a child process, in a temporary copy of the repository and a limit of
time. CODE OF STRANGERS RUNS HERE: of the file that has the network's class, and of files that it
imports from beside it, the imports, definitions and assignments, one statement at a time; what
fails is left out, what is not installed is replaced by a dummy, and nothing reaches the network.
The checkpoint is unpickled as its author does. Nothing of toplabel's reading is used, so that the
two are independent; the format of a note stands in scripts/strangers.py.
"""

import ast
import json
import re
import signal
import socket
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import nn

from toplabel.models.zoo_import import import_torchvision

import_torchvision()
from torchvision.transforms import transforms as T  # noqa: E402

SECONDS_A_STATEMENT = 8
IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
NUMBER = r"-?\d*\.?\d+"


class NoReference(Exception):
    """The author's answers cannot be had; says why."""


# --- the author's code -------------------------------------------------------------------------


@contextmanager
def limited(seconds: int) -> Iterator[None]:
    """Stop the body with TimeoutError after so much processor time."""

    def stop(*_: object) -> None:
        raise TimeoutError(f"longer than {seconds} s")

    signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


class Pretrained(dict[str, torch.Tensor]):
    """Stands for weights that would be downloaded, and that the checkpoint replaces."""


def refuse_network() -> None:
    """Let no connection be made from here on; pretrained weights are left out."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError("no network here")

    def load_state_dict(self: nn.Module, state: Any, *more: Any, **named: Any) -> Any:
        return None if isinstance(state, Pretrained) else load_own(self, state, *more, **named)

    load_own = nn.Module.load_state_dict
    nn.Module.load_state_dict = load_state_dict  # type: ignore[method-assign]
    for place in (torch.hub, sys.modules["torchvision._internally_replaced_utils"]):
        place.load_state_dict_from_url = lambda *_, **__: Pretrained()  # type: ignore[attr-defined]
    api = sys.modules["torchvision.models._api"]
    api.load_state_dict_from_url = lambda *_, **__: Pretrained()  # type: ignore[attr-defined]
    socket.socket.connect = refuse  # type: ignore[method-assign]
    socket.getaddrinfo = refuse  # type: ignore[assignment]


def statements_of(path: Path, *, cell: int | None = None) -> list[ast.stmt]:
    """The statements of a Python file, or of a notebook's code cells up to one."""
    if path.suffix != ".ipynb":
        return ast.parse(path.read_text(encoding="utf-8", errors="replace")).body
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    found: list[ast.stmt] = []
    for number, one in enumerate(cells):
        if one["cell_type"] == "code" and (cell is None or number <= cell):
            lines = "".join(one["source"]).split("\n")
            lines = ["pass" if re.match(r"\s*[%!?]", line) else line for line in lines]
            try:
                body = ast.parse("\n".join(lines)).body
            except SyntaxError:
                continue
            for statement in body:
                statement.cell = number  # type: ignore[attr-defined]
            found += body
    return found


def execute(
    statements: list[ast.stmt],
    namespace: dict[str, Any],
    *,
    file: str,
    wanted: tuple[str, int] | None = None,
) -> None:
    """Run what defines something, one statement at a time, and leave out what fails.

    Args:
        statements: Of a file.
        namespace: What they run in.
        file: Its name.
        wanted: A class or function and its line: definitions of that name elsewhere are left out.
    """
    kinds = (ast.Import, ast.ImportFrom, ast.ClassDef, ast.FunctionDef, ast.Assign, ast.AnnAssign)
    meant = _nearest(statements, *wanted) if wanted else None
    for statement in statements:
        if isinstance(statement, ast.Try | ast.If):  # imports that may fail, and other conditions
            inner = [one for one in statement.body if isinstance(one, kinds)]
            execute(inner, namespace, file=file, wanted=wanted)
        if not isinstance(statement, kinds):
            continue
        name = getattr(statement, "name", None)
        if meant is not None and name == meant.name and statement is not meant:
            continue
        code = compile(ast.Module([statement], []), file, "exec", dont_inherit=True)
        try:
            with limited(SECONDS_A_STATEMENT):
                exec(code, namespace)
        except (Exception, SystemExit):
            continue


def _nearest(statements: list[ast.stmt], name: str, line: int) -> Any:
    """The definition of a name that is nearest to a line, in a notebook in its last cell."""
    found = [one for one in statements if getattr(one, "name", None) == name]
    last = max((getattr(one, "cell", 0) for one in found), default=0)
    found = [one for one in found if getattr(one, "cell", 0) == last]
    return min(found, key=lambda one: abs(one.lineno - line), default=None)


class Lightning(nn.Module):
    """As much of Lightning's module as its subclasses need to be called."""

    def save_hyperparameters(self, *_: object, **__: object) -> None:
        """Nothing is saved."""


class Beside:
    """Finds modules among the repository's files; of what is not installed it makes dummies."""

    def __init__(self, folders: list[Path]) -> None:
        self.folders = folders

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Where a module is to come from; None leaves it to Python."""
        file = next(filter(Path.is_file, self._places(name)), None)
        is_folder = any((folder / name.replace(".", "/")).is_dir() for folder in self.folders)
        known = file is not None or is_folder
        if not known and (self._installed(name) or not self._is_asked_by_author()):
            return None
        spec = ModuleSpec(name, self, origin=str(file) if file else None, is_package=True)  # type: ignore[arg-type]
        spec.loader_state = "folder" if is_folder and file is None else file
        return spec

    def _places(self, name: str) -> Iterator[Path]:
        for folder in self.folders:
            base = folder / name.replace(".", "/")
            yield base.with_name(f"{base.name}.py")
            yield base / "__init__.py"

    def _is_asked_by_author(self) -> bool:
        """Whether the import stands in the repository: libraries try what they can do without."""
        frame = sys._getframe(2)
        while frame.f_back and frame.f_code.co_filename.startswith("<frozen importlib"):
            frame = frame.f_back
        return frame.f_code.co_filename.startswith(str(Path.cwd()))

    def _installed(self, name: str) -> bool:
        root = name.partition(".")[0]
        if root in sys.modules and not getattr(sys.modules[root], "is_dummy", False):
            return True
        sys.meta_path.remove(self)  # type: ignore[arg-type]
        try:
            return find_spec(root) is not None
        except (ImportError, ValueError):
            return False
        finally:
            sys.meta_path.insert(0, self)  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> types.ModuleType:
        """An empty module, or one that has every attribute."""
        if spec.loader_state is None:
            module: Any = MagicMock(name=spec.name, is_dummy=True, __spec__=spec)
            module.LightningModule = Lightning
            module.__path__ = []
            return module  # type: ignore[no-any-return]
        return types.ModuleType(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        """Run its definitions."""
        file = module.__spec__.loader_state if module.__spec__ else None
        if isinstance(file, Path):
            module.__file__ = str(file)
            execute(statements_of(file), vars(module), file=str(file))


# --- the network -------------------------------------------------------------------------------


def author_namespace(folder: Path, note: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """What the file of the class defines, and the class's name."""
    reference = note.get("reference", {})
    at = reference.get("at") or note["class"]["at"]
    match = re.match(
        r"(?P<file>.+?\.(?:py|ipynb|md))(?: cell (?P<cell>\d+) line |:)(?P<line>\d+)", at
    )
    if match is None:
        raise NoReference(f"cannot tell where the class is: {at!r}")
    file = folder / match["file"]
    places = [file.parent, (folder / note["script"]).parent, folder]
    sys.meta_path.insert(0, Beside([*dict.fromkeys(places)]))  # type: ignore[arg-type]
    cell = None if match["cell"] is None else int(match["cell"])
    name = str(reference.get("name") or note["class"]["name"] or "")
    author = types.ModuleType("__main__")  # where pickles of scripts look for their classes
    sys.modules["__main__"] = author
    namespace = vars(author)
    namespace |= {"torch": torch, "nn": nn}
    execute(
        statements_of(file, cell=cell), namespace, file=str(file), wanted=(name, int(match["line"]))
    )
    return namespace, name


def build(namespace: dict[str, Any], name: str, note: Mapping[str, Any]) -> nn.Module:
    """The network that the note's constructor makes."""
    stated = note.get("reference", {}).get("network")
    if stated:
        exec(stated, namespace)
        return namespace["network"]  # type: ignore[no-any-return]
    if name not in namespace:
        raise NoReference(f"{name} is not defined")
    text = note["constructor"]
    start = text.find("(")
    call = _balanced(text[start:]) if start >= 0 else "()"
    rest = text[start + len(call) :]
    literals = re.match(r"\s*with ([\d\s,.*]+)$", rest)
    if literals:
        call = f"({literals[1]})"
    one = re.match(r"\s*(?:=|with \w+ =) (\d+)$", rest)
    if one:
        call = re.sub(r"=[^,]*\)$", f"={one[1]})", call) if "=" in call else f"({one[1]})"
    try:
        made = eval(f"{name}{call}", namespace)
    except Exception as error:
        raise NoReference(f"{name}{call} fails: {error}") from error
    if not isinstance(made, nn.Module):
        raise NoReference(f"{name}{call} is a {type(made).__name__}")
    return made


def _balanced(text: str) -> str:
    depth = 0
    for place, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if depth == 0:
            return text[: place + 1]
    return "()"


def load(folder: Path, note: Mapping[str, Any]) -> nn.Module:
    """The author's network with the weights of the checkpoint, in eval mode."""
    path = folder / note["checkpoint"]
    content_before = path.read_bytes()  # some train as soon as they are read, and save over it
    namespace, name = author_namespace(folder, note)
    path.write_bytes(content_before)
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        content: Any = load_file(path)
    else:
        try:
            content = torch.load(path, map_location="cpu", weights_only=False)
        except Exception as error:
            raise NoReference(f"torch.load fails: {error}") from error
    if isinstance(content, nn.Module):
        return content.float().eval()
    network = build(namespace, name, note)
    for state in _state_dicts(content):
        for stripped in _without_prefixes(state):
            try:
                network.load_state_dict(stripped, strict=True)
            except Exception:
                continue
            return network.float().eval()
    raise NoReference("no state dict of the file fits the class strictly")


def _state_dicts(content: Any, depth: int = 0) -> Iterator[dict[str, torch.Tensor]]:
    if not isinstance(content, Mapping) or depth > 3:
        return
    tensors = {key: value for key, value in content.items() if isinstance(value, torch.Tensor)}
    if tensors:
        yield tensors
    for value in content.values():
        yield from _state_dicts(value, depth + 1)


def _without_prefixes(state: dict[str, torch.Tensor]) -> Iterator[dict[str, torch.Tensor]]:
    yield state
    yield {key: value for key, value in state.items() if "num_batches_tracked" not in key}
    for prefix in {key.partition(".")[0] for key in state}:
        kept = {k.removeprefix(f"{prefix}."): v for k, v in state.items() if k.startswith(prefix)}
        yield kept


# --- the author's preprocessing ----------------------------------------------------------------

Steps = list[Callable[[Any], Any]]


def pipelines(note: Mapping[str, Any]) -> dict[str, Steps]:
    """The ways from an image file to a tensor that the note has: name -> steps.

    Several, where the author has several: an application's and a test's.
    """
    reference = note.get("reference", {})
    if "preprocess" in reference:
        namespace = {"np": np, "torch": torch, "T": T, "Image": Image, "ImageOps": ImageOps}
        exec(reference["preprocess"], namespace)
        return {"the script": [namespace["preprocess"]]}
    lines = reference.get("preprocessing") or note["preprocessing"]
    together: list[str] = []
    several: dict[str, Steps] = {}
    for line in lines:
        head, colon, rest = line.partition(":")
        is_whole = colon and re.match(r"[\w./ ()&]+$", head) and rest.count(",") > 0
        if is_whole and re.search(r"ToTensor|transpose", rest):
            several[head] = [_step(part) for part in _parts(rest)]
        else:
            together += _parts(line)
    if together and not several:
        several["the script"] = [_step(part) for part in together]
    if not several:
        raise NoReference("no preprocessing in the note")
    return several


def _parts(line: str) -> list[str]:
    """The operations of a line, cut at commas that stand outside brackets and between words."""
    line = re.sub(r"\([^()\d]*\)", "", line) if "(" in line and "Grayscale(" not in line else line
    return [
        part.strip() for part in re.split(r",\s+(?![\d.\s]*\))(?=[A-Za-z/])", line) if part.strip()
    ]


def _numbers(text: str) -> list[float]:
    return [float(number) for number in re.findall(NUMBER, text)]


def _step(text: str) -> Callable[[Any], Any]:
    """One operation by the words of a note.

    Raises:
        NoReference: The words are not known.
    """
    for pattern, make in GRAMMAR:
        match = re.search(pattern, text, re.IGNORECASE)
        if match:
            return make(text)
    raise NoReference(f"unknown words in the note: {text!r}")


def _same(text: str) -> Callable[[Any], Any]:
    return lambda value: value


def _pil_resize(text: str) -> Callable[[Any], Any]:
    height, width = map(int, _numbers(text)[:2])
    name = "LANCZOS" if "LANCZOS" in text else "BOX" if "BOX" in text else "BICUBIC"
    return lambda image: image.resize((width, height), Image.Resampling[name])


def _resize(text: str) -> Callable[[Any], Any]:
    inside = re.search(r"\(\s*(\d+)\s*,\s*(\d+)", text)
    if inside is None:
        return T.Resize(int(_numbers(text)[0]))  # type: ignore[no-any-return]
    mode = T.InterpolationMode.BOX if "BOX" in text else T.InterpolationMode.BILINEAR
    return T.Resize((int(inside[1]), int(inside[2])), interpolation=mode)  # type: ignore[no-any-return]


def _cv2_resize(text: str) -> Callable[[Any], Any]:
    import cv2

    numbers = _numbers(text.replace("cv2", "").replace("A_", ""))
    size = (int(numbers[0]), int(numbers[1] if len(numbers) > 1 else numbers[0]))
    mode = cv2.INTER_AREA if "AREA" in text else cv2.INTER_LINEAR
    return lambda array: cv2.resize(np.asarray(array), size, interpolation=mode)


def _normalize(text: str) -> Callable[[Any], Any]:
    if "imagenet" in text.lower():
        return T.Normalize(*IMAGENET)  # type: ignore[no-any-return]
    text = re.sub(r"[x*]\s?3\b", "", text)
    halves = re.split(r"/|std", text) if re.search(r"/|std", text) else [text, text]
    mean, std = (_numbers(half) for half in halves[:2])
    return lambda tensor: T.Normalize(mean, std)(tensor)


def _invert(text: str) -> Callable[[Any], Any]:
    def invert(value: Any) -> Any:
        if isinstance(value, Image.Image):
            return ImageOps.invert(value.convert("RGB") if value.mode == "RGBA" else value)
        return 255 - value

    return invert


def _to_array(value: Any) -> Any:
    return np.asarray(value)


def _to_tensor(value: Any) -> torch.Tensor:
    if isinstance(value, np.ndarray) and value.dtype != np.uint8:
        array = value if value.ndim == 3 else value[:, :, None]
        return torch.from_numpy(np.ascontiguousarray(array.transpose(2, 0, 1))).float()
    return T.ToTensor()(value)  # type: ignore[no-any-return]


def _over_255(text: str) -> Callable[[Any], Any]:
    def divide(value: Any) -> Any:
        array = np.asarray(value)
        return (255 - array if "255 -" in text else array) / 255.0

    return divide


def _gray_of(order: str) -> Callable[[str], Callable[[Any], Any]]:
    def make(text: str) -> Callable[[Any], Any]:
        import cv2

        code = {"BGR": cv2.COLOR_BGR2GRAY, "RGB": cv2.COLOR_RGB2GRAY}[order]
        return lambda array: array if array.ndim == 2 else cv2.cvtColor(array[..., :3], code)

    return make


def _imread(text: str) -> Callable[[Any], Any]:
    def read(image: Image.Image) -> Any:
        if re.search("GRAY", text):
            return np.asarray(image.convert("L"))
        return np.ascontiguousarray(np.asarray(image.convert("RGB"))[..., ::-1])

    return read


GRAMMAR: list[tuple[str, Callable[[str], Callable[[Any], Any]]]] = [
    (r"^no\b|no mean|\bnot\b|optional|^\((?!255)|NO division|NO normali[sz]ation", _same),
    (r"x > 0\.5", lambda _: lambda tensor: (tensor > 0.5).float()),
    (r"cv2\.(imread|imdecode)|^imread", _imread),
    (r"camera frame", _imread),
    (r"BGR2RGB", lambda _: lambda array: np.ascontiguousarray(array[..., ::-1])),
    (r"(BGR|RGBA?)2GRAY", lambda text: _gray_of("BGR" if "BGR" in text else "RGB")(text)),
    (r"transpose", lambda _: lambda array: torch.from_numpy(
        np.ascontiguousarray(np.asarray(array).transpose(2, 0, 1))).float()),
    (r"^float32\b|^float$|\.float\(\)$", lambda _: _to_tensor),
    (r"cv2\.resize|albumentations\.Resize|A\.Resize", _cv2_resize),
    (r"255\.?0? ?-|invert|bitwise_not|\^ ?255",
     lambda text: _over_255(text) if "/" in text else _invert(text)),
    (r"^/ ?255", _over_255),
    (r"CenterCrop", lambda text: T.CenterCrop(int(_numbers(text)[0]))),
    (r"Gr[ae]yscale|convert(\(|\s)*'?L\b|to L\b", lambda _: T.Grayscale(1)),
    (r"convert(\(|\s)*'?RGB|ImageFolder|RGB$", lambda _: lambda image: image.convert("RGB")),
    (r"^resize", lambda text: _pil_resize(text) if text[0] == "r" else _resize(text)),
    (r"Normali[sz]e", _normalize),
    (r"ToTensor|to_tensor", lambda _: _to_tensor),
    (r"reshape|flatten|view\(", lambda _: lambda tensor: tensor.reshape(1, -1)),
    (r"fromarray|ToPILImage", lambda _: lambda array: Image.fromarray(np.asarray(array))),
    (r"open|PIL L image|RGBA canvas|pygame surface|PIL$", _same),
]  # fmt: skip
"""Words of notes -> operations, the first that match."""


# --- answers -----------------------------------------------------------------------------------


def answer(network: nn.Module, steps: Steps, image: Path) -> list[float]:
    """The scores for one image, as a row of probabilities; nothing where the code fails on it."""
    try:
        return _scores(network, steps, image)
    except Exception as error:
        print(f"{image.name}: {type(error).__name__}: {error}", file=sys.stderr)
        return []


def _scores(network: nn.Module, steps: Steps, image: Path) -> list[float]:
    with Image.open(image) as opened:
        opened.load()
        value: Any = opened
        for step in steps:
            value = step(value)
    if not isinstance(value, torch.Tensor):
        value = _to_tensor(np.asarray(value))
    batch = value.float()
    batch = batch if batch.ndim in (2, 4) else batch[None]
    with torch.no_grad():
        outputs = network(batch)
    while isinstance(outputs, tuple | list):
        outputs = outputs[0]
    row = outputs.float().reshape(len(outputs), -1) if outputs.ndim > 1 else outputs.reshape(1, -1)
    if len(row) != 1:
        raise NoReference(f"the network gives {len(row)} rows for one image")
    scores = row[0]
    if len(scores) == 1:
        one = float(scores[0] if _ends_in_sigmoid(network, batch) else scores.sigmoid()[0])
        return [1 - one, one]
    are_probabilities = bool((scores >= 0).all()) and abs(float(scores.sum()) - 1) < 1e-3
    return [float(s) for s in (scores if are_probabilities else scores.softmax(0))]


def _ends_in_sigmoid(network: nn.Module, batch: torch.Tensor) -> bool:
    """Whether its single output stays between 0 and 1 whatever it is given."""
    with torch.no_grad():
        outputs = torch.stack([network(factor * batch).flatten() for factor in (1, 50, -50, 2000)])
    return bool(((outputs >= 0) & (outputs <= 1)).all())


def main(note_path: str, images_path: str, answers_path: str) -> None:
    """Write {"pipelines": {name: [[score, ...], ...]}} or {"problem": why not}."""
    refuse_network()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    note = json.loads(Path(note_path).read_text())
    images = [Path(name) for name in json.loads(Path(images_path).read_text())]
    found: dict[str, Any] = {"pipelines": {}}
    try:
        ways = pipelines(note)
        network = load(Path.cwd(), note)
        for name, steps in ways.items():
            found["pipelines"][name] = [answer(network, steps, image) for image in images]
            if not any(found["pipelines"][name]):
                raise NoReference(f"{name}: the author's own code fails on every image")
    except NoReference as error:
        found = {"problem": str(error)}
    except Exception as error:
        found = {"problem": f"{type(error).__name__}: {error}"[:300]}
    Path(answers_path).write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
