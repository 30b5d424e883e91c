"""A model's name as somebody types it in, what it stands for out; imports no torch.

Every command, Python and the server ask here, so that they agree. Files are known by content.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from toplabel._internal.json_file import read_json
from toplabel.bundle.bundle import BUILT_IN_NAME, is_bundle
from toplabel.errors import MissingDependency, ModelNotFound, UsageError
from toplabel.image.paths import is_pattern

Kind = Literal["built-in", "bundle", "onnx", "checkpoint", "folder", "name"]
"""What a model is. A "name" is one of torchvision's, timm's or the Hugging Face hub's."""

NAMES_OF_BUILT_IN = ("embedded", "built-in", BUILT_IN_NAME)

_FILES = frozenset(
    {".pth", ".pt", ".th", ".ckpt", ".tar", ".bin", ".safetensors", ".onnx", ".toplabel"}
)
_HUB_PREFIXES = ("hf/", "hf-hub:", "hf_hub:")
_HUB_NAME = r"(?:\w[\w.-]*/)?\w[\w.-]*(?:@[\w./-]+)?"
_LIBRARIES = ("torchvision", "timm")


@dataclass(frozen=True)
class ModelRef:
    """What a model's name stands for. Comes from `parse`.

    Args:
        given: As it was typed; the built-in model's name where none was.
        kind: What it is.
    """

    given: str
    kind: Kind

    @classmethod
    def parse(cls, model: str | os.PathLike[str] | None) -> ModelRef:
        """What `model` stands for.

        A name with a separator or a suffix that exists is a path; so is any other that exists and
        is not a library's: `resnet18` is torchvision's even where a file of that name lies beside,
        `./resnet18` is the file.

        Raises:
            ModelNotFound: It ends as model files do, and there is no such file.
        """
        text = BUILT_IN_NAME if model is None else os.fspath(model)
        name, _, version = text.partition("@")
        if name.lower() in NAMES_OF_BUILT_IN:
            return cls(f"{BUILT_IN_NAME}@{version}" if version else BUILT_IN_NAME, "built-in")
        if text.startswith((*(f"{library}/" for library in _LIBRARIES), *_HUB_PREFIXES)):
            return cls(text, "name")
        if os.path.lexists(text) and (_looks_like_path(text) or _library_of(text) is None):
            return cls(text, "folder" if os.path.isdir(text) else _kind_of_file(text))
        if os.path.splitext(text)[1].lower() in _FILES:
            raise ModelNotFound(f"got the model {text!r}, but there is no such file")
        return cls(text, "name")

    @property
    def is_path(self) -> bool:
        """Whether it is a file or folder of this machine."""
        return self.kind in ("bundle", "onnx", "checkpoint", "folder")

    @property
    def real_path(self) -> str:
        """The path without links, which caches know it by."""
        return os.path.realpath(self.given)

    @property
    def cache_name(self) -> str:
        """What the cache knows it by: local ones by their real path, others as typed."""
        return self.real_path if self.is_path else self.given

    def canonical(self) -> str:
        """Its name with the source in front; a path as an absolute path.

        >>> ModelRef.parse("hf-hub:google/vit-base-patch16-224").canonical()
        'hf/google/vit-base-patch16-224'

        Raises:
            ModelNotFound: No source knows it; says what looks like it.
            MissingDependency: The library that would know it is not installed.
        """
        if self.kind == "folder":
            return _canonical_folder(self.given)
        if self.is_path or self.kind == "built-in":
            return self.cache_name
        for library in _LIBRARIES:
            if self.given.startswith(f"{library}/"):
                return _name_in_library(library, self.given.removeprefix(f"{library}/"))
        for prefix in _HUB_PREFIXES:
            if self.given.startswith(prefix):
                return _name_on_hub(self.given.removeprefix(prefix), given=self.given)
        return _bare_name(self.given)


def model_files(names: Iterable[str]) -> Iterator[str]:
    """The model files that these names stand for, in their order.

    Args:
        names: A folder gives the files in it, and below, that have the suffix of a model file,
            sorted; a Hugging Face folder is one model. A pattern gives what it matches.

    Raises:
        UsageError: A folder has no such file, or a pattern matches nothing.
    """
    for name in names:
        if os.path.isdir(name) and not os.path.isfile(os.path.join(name, "config.json")):
            found = [
                os.path.join(folder, file)
                for folder, _, files in os.walk(name)
                for file in files
                if os.path.splitext(file)[1].lower() in _FILES
            ]
            if not found:
                raise UsageError(
                    f"there are no model files in the folder {name!r}; files count as such by their"
                    f" suffix: {' '.join(sorted(_FILES))}"
                )
            yield from sorted(found)
        elif is_pattern(name):
            matched = sorted(glob.glob(name, recursive=True))
            if not matched:
                raise UsageError(f"nothing matches the pattern {name!r}")
            yield from matched
        else:
            yield name


_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
"""What weights are called in a Hugging Face folder, the better first; or an index of several."""


def weights_of(folder: str) -> str | None:
    """The path of a Hugging Face folder's weights, or of their index; None where it has none."""
    names = (f"{name}{index}" for name in _WEIGHTS for index in ("", ".index.json"))
    paths = (os.path.join(folder, name) for name in names)
    return next((path for path in paths if os.path.lexists(path)), None)


def folder_of_weights(path: str) -> str | None:
    """The Hugging Face folder that has this file as its weights; None where it is no such file.

    Its config.json says what the weights are of, so that they are better opened as the folder.
    """
    if not os.path.basename(path).startswith(_WEIGHTS):
        return None
    folder = os.path.dirname(path) or os.curdir
    if weights_of(folder) != os.path.join(folder, os.path.basename(path)):
        return None
    config = read_json(Path(folder, "config.json")) or {}
    is_transformers = "model_type" in config and "architectures" in config
    is_timm = "architecture" in config and "pretrained_cfg" in config
    return folder if is_transformers or is_timm else None


def _looks_like_path(text: str) -> bool:
    separators = {os.sep, os.altsep or os.sep}
    return any(s in text for s in separators) or bool(os.path.splitext(text)[1])


def _kind_of_file(path: str) -> Kind:
    """What the file holds; its suffix counts only where its content says nothing."""
    if is_bundle(path):
        return "bundle"
    from toplabel.bundle.onnx_header import is_onnx  # only for files: it takes 2 ms

    if is_onnx(path):
        return "onnx"
    suffixes: dict[str, Kind] = {".toplabel": "bundle", ".onnx": "onnx"}
    return suffixes.get(os.path.splitext(path)[1].lower(), "checkpoint")


def _library_of(text: str) -> str | None:
    """The library that knows the name; None where neither does."""
    from toplabel.models.sources import names  # reads the libraries' source files

    torchvision, timm = names.torchvision_names(), names.timm_names()
    known = {"torchvision": torchvision or frozenset(), "timm": timm or frozenset()}
    for library in known:
        if without_weights(library, text) in known[library]:
            return library
    for library in known:  # a detector, to be refused with the reason; or a name of old
        if without_weights(library, text) in names.other_names(library):
            return library
    return None


def _canonical_folder(path: str) -> str:
    if os.path.isfile(os.path.join(path, "config.json")):
        return os.path.abspath(path)
    if os.path.isfile(os.path.join(path, "adapter_config.json")):
        raise ModelNotFound(
            f"the folder {path!r} holds an adapter alone (LoRA, PEFT), without the network that it"
            " adapts: merge it where that is, model.merge_and_unload().save_pretrained(folder), and"
            " pass that folder"
        )
    raise ModelNotFound(
        f"the folder {path!r} has no config.json; expected a Hugging Face folder with config.json,"
        " preprocessor_config.json and model.safetensors"
    )


def _name_in_library(library: str, rest: str) -> str:
    from toplabel.models.sources import names

    known = names.torchvision_names() if library == "torchvision" else names.timm_names()
    if known is None:
        raise MissingDependency(
            f"the model '{library}/{rest}' needs {library}, which is not installed; pip install"
            " 'toplabel[torch]'"
        )
    name = without_weights(library, rest)
    # An empty list means a library laid out in another way: then its own registry decides later.
    if known and name not in known | names.other_names(library):
        raise _unknown(f"{library}/{rest}", names.suggestions(name.lower(), library=library))
    return f"{library}/{rest}"


def _name_on_hub(rest: str, *, given: str) -> str:
    if not _is_hub_name(rest):
        raise ModelNotFound(
            f"got the model {given!r}; expected hf/ORG/NAME or hf/ORG/NAME@REVISION"
        )
    return f"hf/{rest}"


def _bare_name(text: str) -> str:
    from toplabel.models.sources import names

    if library := _library_of(text):
        return f"{library}/{text}"
    if "/" in text or os.sep in text:
        raise _no_such_path(text)
    if names.torchvision_names() is None and names.timm_names() is None:
        raise MissingDependency(
            f"got the model {text!r}; models by name need torchvision and timm, which are not"
            " installed; pip install 'toplabel[torch]'"
        )
    close = names.suggestions(text.partition(".")[0].partition(":")[0].lower())
    raise _unknown(text, close) if close or "." not in text else _no_such_path(text)


def _is_hub_name(text: str) -> bool:
    return re.fullmatch(_HUB_NAME, text, re.ASCII) is not None


def without_weights(library: str, name: str) -> str:
    """Torchvision resnet50:IMAGENET1K_V2, timm resnet50.a1_in1k -> resnet50."""
    return name.partition(":" if library == "torchvision" else ".")[0]


def _no_such_path(text: str) -> ModelNotFound:
    from difflib import get_close_matches

    first, _, rest = text.partition("/")
    close = get_close_matches(first, [*_LIBRARIES, "hf"], n=1, cutoff=0.7)
    meant = f"{close[0]}/{rest}" if close else f"hf/{text}" if _is_hub_name(text) else None
    hint = f"did you mean {meant}?" if meant else "expected a model's name or an existing path"
    return ModelNotFound(f"got the model {text!r}, but there is no such path; {hint}")


def _unknown(text: str, close: list[str]) -> ModelNotFound:
    hint = f"did you mean {' or '.join(close)}?" if close else "`toplabel models` lists the names"
    return ModelNotFound(f"unknown model {text!r}; {hint}")
