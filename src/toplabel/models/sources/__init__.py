"""Sources: a model's name in, its canonical spelling or the Model itself out.

Importing this file, and `resolve`, import no torch; `load_model` does.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from toplabel.errors import MissingDependency, ModelNotFound

if TYPE_CHECKING:
    from toplabel.bundle.model import Model
    from toplabel.preprocess import Preprocess

SOURCES = {
    "torchvision": "toplabel.models.sources.torchvision:load",
    "timm": "toplabel.models.sources.timm:load",
    "hf": "toplabel.models.sources.huggingface:load",
    "folder": "toplabel.models.sources.huggingface:load_folder",
}
"""What loads a model, by the first part of its canonical name; a path is a "folder"."""

_FILES = frozenset(
    {".pth", ".pt", ".th", ".ckpt", ".tar", ".bin", ".safetensors", ".onnx", ".toplabel"}
)
_HUB_PREFIXES = ("hf/", "hf-hub:", "hf_hub:")
_HUB_NAME = re.compile(r"(?:\w[\w.-]*/)?\w[\w.-]*(?:@[\w./-]+)?", re.ASCII)


def load_model(
    name: str | os.PathLike[str],
    *,
    offline: bool = False,
    notify: Callable[[str], None] | None = None,
    preprocess: Preprocess | None = None,
) -> Model:
    """The model of that name, its weights downloaded into its library's own cache where needed.

    Args:
        name: As `resolve` takes it.
        offline: Never ask the network.
        notify: Called with one line of text for each file that is about to be downloaded.
        preprocess: Instead of the recipe that comes with the weights.

    Raises:
        ModelNotFound: No source knows the name.
        ModelError: It is no classifier that can be used.
        PreprocessError: It has no recipe, or one that cannot be expressed.
        CheckpointError: Its weights cannot be read, or do not fit.
        DownloadError: Its weights are not here and cannot be fetched.
        MissingDependency: Its library is not installed.
    """
    from importlib import import_module  # brings importlib.util and more; rarely needed

    from toplabel._internal.optional import require

    spec = resolve(name)
    require("torch", extra="torch", purpose=f"the model {spec!r}")
    kind, rest = ("folder", spec) if os.path.exists(spec) else spec.split("/", 1)
    module, function = SOURCES[kind].split(":")
    load = getattr(import_module(module), function)
    model: Model = load(rest, offline=offline, notify=notify or tell_nobody, preprocess=preprocess)
    return model


def resolve(name: str | os.PathLike[str]) -> str:
    """The canonical spelling of a model's name; imports neither torch nor a model library.

    >>> resolve("hf-hub:google/vit-base-patch16-224")
    'hf/google/vit-base-patch16-224'

    Args:
        name: `torchvision/NAME[:WEIGHTS]`, `timm/NAME[.TAG]`, `hf/ORG/NAME[@REVISION]` (also
            `hf-hub:ORG/NAME`), a bare name of torchvision's, else timm's, or the path of a
            Hugging Face folder: with a separator or a suffix.

    Returns:
        The name with its source in front; a path as an absolute path.

    Raises:
        ModelNotFound: No source knows it; says what looks like it.
        MissingDependency: The library that would know it is not installed.
    """
    text = os.fspath(name)
    check_file(text)
    for library in ("torchvision", "timm"):
        if text.startswith(f"{library}/"):
            return _resolve_in_library(library, text.removeprefix(f"{library}/"))
    for prefix in _HUB_PREFIXES:
        if text.startswith(prefix):
            return _resolve_on_hub(text.removeprefix(prefix), given=text)
    if is_path(text):
        return _resolve_folder(text)
    return _resolve_bare(text)


def _resolve_in_library(library: str, rest: str) -> str:
    from toplabel.models.sources import names  # reads the libraries' source files

    known = names.torchvision_names() if library == "torchvision" else names.timm_names()
    if known is None:
        raise MissingDependency(
            f"the model '{library}/{rest}' needs {library}, which is not installed; pip install"
            " 'toplabel[torch]'"
        )
    name = _without_weights(library, rest)
    # An empty list means a library laid out in another way: then its own registry decides later.
    if known and name not in known | names.other_names(library):
        raise _unknown_name(f"{library}/{rest}", names.suggestions(name, library=library))
    return f"{library}/{rest}"


def _resolve_on_hub(rest: str, *, given: str) -> str:
    if not _HUB_NAME.fullmatch(rest):
        raise ModelNotFound(
            f"got the model {given!r}; expected hf/ORG/NAME or hf/ORG/NAME@REVISION"
        )
    return f"hf/{rest}"


def _resolve_folder(path: str) -> str:
    if os.path.isfile(os.path.join(path, "config.json")):
        return os.path.abspath(path)
    if os.path.isdir(path):
        raise ModelNotFound(
            f"the folder {path!r} has no config.json; expected a Hugging Face folder, with"
            " config.json, preprocessor_config.json and model.safetensors"
        )
    raise ModelNotFound(
        f"got {path!r} as a model; expected the name of one, or the path of a Hugging Face folder"
    )


def _resolve_bare(text: str) -> str:
    from toplabel.models.sources import names

    torchvision, timm = names.torchvision_names(), names.timm_names()
    known = {"torchvision": torchvision or frozenset(), "timm": timm or frozenset()}
    for library in known:
        if _without_weights(library, text) in known[library]:
            return f"{library}/{text}"
    for library in known:  # a detector, to be refused with the reason; or a name of old
        if _without_weights(library, text) in names.other_names(library):
            return f"{library}/{text}"
    if "/" in text or os.sep in text:
        raise _no_such_path(text)
    if torchvision is None and timm is None:
        raise MissingDependency(
            f"got the model {text!r}; models by name need torchvision and timm, which are not"
            " installed; pip install 'toplabel[torch]'"
        )
    close = names.suggestions(text.partition(".")[0].partition(":")[0])
    raise _unknown_name(text, close) if close or "." not in text else _no_such_path(text)


def _without_weights(library: str, name: str) -> str:
    """Torchvision resnet50:IMAGENET1K_V2, timm resnet50.a1_in1k -> resnet50."""
    return name.partition(":" if library == "torchvision" else ".")[0]


def is_path(text: str) -> bool:
    """Whether a model's name means an existing file or folder: it looks like a path, and is one.

    `resnet18` is torchvision's, even where a folder of that name lies beside; `./resnet18` is not.
    """
    if text.startswith(("torchvision/", "timm/", *_HUB_PREFIXES)):
        return False
    return _looks_like_path(text) and os.path.lexists(text)


def check_file(text: str) -> None:
    """Stop where a model's name is plainly that of a file, and there is none.

    Raises:
        ModelNotFound: It ends as model files do.
    """
    if os.path.splitext(text)[1].lower() in _FILES and not os.path.exists(text):
        raise ModelNotFound(f"got the model {text!r}, and there is no such file")


def _looks_like_path(text: str) -> bool:
    separators = {os.sep, os.altsep or os.sep}
    return any(s in text for s in separators) or bool(os.path.splitext(text)[1])


def _no_such_path(text: str) -> ModelNotFound:
    from difflib import get_close_matches

    first, _, rest = text.partition("/")
    close = get_close_matches(first, ["torchvision", "timm", "hf"], n=1, cutoff=0.7)
    meant = f"{close[0]}/{rest}" if close else f"hf/{text}" if _HUB_NAME.fullmatch(text) else None
    hint = f"did you mean {meant}?" if meant else "expected a model's name, or an existing path"
    return ModelNotFound(f"got the model {text!r}, and there is no such path; {hint}")


def _unknown_name(text: str, close: list[str]) -> ModelNotFound:
    hint = f"did you mean {' or '.join(close)}?" if close else "`toplabel models` lists the names"
    return ModelNotFound(f"got the model {text!r}, which no source knows; {hint}")


def tell_nobody(text: str) -> None:
    """For those who want no notes."""
