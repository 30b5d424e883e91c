"""Fetch: a URL or a repository of the Hugging Face Hub in, the files of its weights out.

They lie in the cache that each library keeps itself, and what is there is used without asking the
network. Otherwise the network is asked once, with a time limit, and is missed within seconds.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import sys
import tempfile
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import torch

from toplabel._internal.http import FetchOptions, HttpError, open_url
from toplabel._internal.optional import require
from toplabel._internal.text import first_line
from toplabel.bundle.cache import FileSignature
from toplabel.errors import CheckpointError, DownloadError, ModelNotFound, ToplabelError
from toplabel.models.checkpoint import reading

SAFETENSORS = "model.safetensors"
PICKLE = "pytorch_model.bin"
CONFIGS = ("config.json", "preprocessor_config.json", "processor_config.json")
_SHARD = re.compile(r"(?:model|pytorch_model)-\d{5}-of-\d{5}\.(?:safetensors|bin)")
_TIMEOUT_SECONDS = 20.0
_HASH_IN_NAME = re.compile(r"-([0-9a-f]{8,})\.")  # resnet50-11ad3fa6.pth
logger = logging.getLogger(__name__)


def torch_cache_path(url: str) -> Path:
    """Where torch keeps the file of that URL."""
    return Path(torch.hub.get_dir(), "checkpoints", os.path.basename(urlsplit(url).path))


def fetch_url(url: str, *, offline: bool) -> Path:
    """The file of that URL in torch's cache, downloaded and its hash checked where it is not there.

    Raises:
        DownloadError: It is neither there nor can it be fetched.
    """
    path = torch_cache_path(url)
    if path.is_file():
        return path
    missing = f"{path.name} is not on this machine (looked for {path})"
    if offline:
        raise DownloadError(f"{missing}, and downloading is off")
    logger.info("downloading %s", url)
    digest = _HASH_IN_NAME.search(path.name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _download(url, path, digest[1] if digest else "")
    except (OSError, HttpError) as error:
        logger.debug("the download failed", exc_info=error)
        raise DownloadError(
            f"{missing} and could not be fetched from {url}: {first_line(error)}"
        ) from None  # one error, not the stack of an HTTP library
    return path


def _download(url: str, path: Path, digest: str) -> None:
    """Write the file of that URL, all of it or nothing; with a bar of progress on a terminal.

    Raises:
        HttpError: It cannot be fetched, or its SHA-256 does not begin with `digest`.
        OSError: It cannot be written.
    """
    tqdm = require("tqdm", extra="torch", purpose="downloading weights").tqdm
    checksum = hashlib.sha256()
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".download-") as folder:
        partial = Path(folder, path.name)
        with (
            open_url(url, FetchOptions(stall_seconds=_TIMEOUT_SECONDS)) as body,
            open(partial, "wb") as file,  # with the usual permissions
            tqdm(
                total=body.length, disable=not sys.stderr.isatty(), unit="B", unit_scale=True
            ) as bar,
        ):
            for block in body:
                file.write(block)
                checksum.update(block)
                bar.update(len(block))
        if not checksum.hexdigest().startswith(digest):
            found = checksum.hexdigest()[: len(digest)]
            raise HttpError("failed", f"invalid hash value (expected {digest}, got {found})")
        os.replace(partial, path)


def fetch_from_hub(
    name: str,
    *,
    key_files: Sequence[str],
    choose: Callable[[list[str]], list[str]],
    is_whole: Callable[[Path], bool] = lambda folder: True,
    offline: bool,
) -> Path:
    """The folder in the Hub's cache with a repository's files; its name is the commit.

    Args:
        name: ORG/NAME, or ORG/NAME@REVISION: a branch, tag or commit.
        key_files: A cached folder with one of these is used without asking the network.
        choose: Of the names of all files, those to download.
        is_whole: Whether such a cached folder has all that is needed.
        offline: Never ask the network.

    Raises:
        ModelNotFound: The Hub has no such repository or revision.
        DownloadError: It is not in the cache, and the Hub or the repository cannot be reached.
    """
    hub = require("huggingface_hub", extra="hf", purpose="the Hugging Face Hub")
    repository, _, at = name.partition("@")
    revision = at or None
    for key_file in key_files:
        found = hub.try_to_load_from_cache(repository, key_file, revision=revision)
        if isinstance(found, str) and is_whole(folder := _parent(found, key_file)):
            return folder
    constants = require("huggingface_hub.constants", extra="hf", purpose="the Hugging Face Hub")
    missing = f"{name} is not on this machine (looked in {constants.HF_HUB_CACHE})"
    if offline or constants.HF_HUB_OFFLINE:
        why = "downloading is off" if offline else "HF_HUB_OFFLINE forbids downloading it"
        raise DownloadError(f"{missing}, and {why}")
    try:
        # Asked first because it fails at once without a network, where a download tries for 20 s.
        info = hub.HfApi().repo_info(repository, revision=revision, timeout=_TIMEOUT_SECONDS)
        files = choose([file.rfilename for file in info.siblings])
        logger.info("downloading %s from the Hugging Face Hub", name)
        paths = [hub.hf_hub_download(repository, file, revision=revision) for file in files]
    except ToplabelError:  # of `choose`
        raise
    except Exception as error:  # the errors of the Hub's HTTP library share no narrower base
        logger.debug("the download failed", exc_info=error)
        raise _hub_error(name, missing, error) from None
    return _parent(paths[-1], files[-1])


def _parent(path: str, file: str) -> Path:
    """The folder that `file`, with folders of its own, lies in at `path`."""
    return Path(path).parents[file.count("/")]


def _hub_error(name: str, missing: str, error: Exception) -> DownloadError | ModelNotFound:
    """What went wrong with the Hub, and what to do."""
    hub_errors = require("huggingface_hub.errors", extra="hf", purpose="the Hugging Face Hub")
    if isinstance(error, hub_errors.GatedRepoError):
        return DownloadError(
            f"{name} is a gated repository: accept its terms on the Hugging Face Hub, then log in"
            " with `hf auth login`"
        )
    if isinstance(error, hub_errors.RevisionNotFoundError):
        return ModelNotFound(f"unknown revision on the Hugging Face Hub: {name}")
    if isinstance(error, hub_errors.RepositoryNotFoundError):
        return ModelNotFound(
            f"unknown repository on the Hugging Face Hub: {name}; if it is private, log in with"
            " `hf auth login`"
        )
    while isinstance(getattr(error, "reason", None), Exception):  # URLError wraps another
        error = error.reason  # type: ignore[attr-defined]
    return DownloadError(
        f"{missing} and could not be fetched from the Hugging Face Hub: {first_line(error)}"
    )


def choose_weights(names: Collection[str]) -> list[str]:
    """Of a folder's file names, those of its weights: safetensors where there are any.

    One file, or an index and its shards; empty where there is neither.
    """
    for whole in (SAFETENSORS, PICKLE):
        if whole in names:
            return [whole]
        if f"{whole}.index.json" in names:
            suffix = whole.rpartition(".")[2]
            shards = (n for n in names if _SHARD.fullmatch(n) and n.endswith(suffix))
            return [f"{whole}.index.json", *sorted(shards)]
    return []


def weights_in(folder: Path) -> tuple[Path, ...]:
    """The files of the folder's weights; empty where they are missing or incomplete."""
    files = [folder / name for name in choose_weights([path.name for path in folder.iterdir()])]
    if files and files[0].suffix == ".json" and not _shards_of(files[0]) <= set(files):
        return ()
    return tuple(files)


def folder_signatures(folder: Path) -> tuple[FileSignature, ...]:
    """What a folder's configurations and weights are now; to be taken before they are read.

    Raises:
        CheckpointError: One of them is a link to nowhere, as a copy of links is.
    """
    configs = [path for name in CONFIGS if (path := folder / name).is_file()]
    files = (*configs, *weights_in(folder))
    for path in files:
        if not path.exists():
            raise CheckpointError(f"{path} links to a missing file; copy the folder with `cp -rL`")
    return tuple(FileSignature.of(path) for path in files)


def check_unchanged(folder: Path, before: tuple[FileSignature, ...]) -> None:
    """Stop where something was saved into the folder since: what was read may be of two models.

    Raises:
        CheckpointError: It was.
    """
    if folder_signatures(folder) != before:
        raise CheckpointError(f"{folder} changed while it was read; try again")


def demand_safe_pickles(files: Collection[Path]) -> None:
    """Stop before a torch that is not safe enough reads a pickled file.

    Raises:
        MissingDependency: torch is older than 2.10.
    """
    for path in files:
        if path.suffix not in (".safetensors", ".json"):
            reading.demand_safe_pickles(path)


def cannot_load(name: str, path: Path, error: Exception) -> CheckpointError:
    """The error of weights that a library's own code did not load, whatever it raised.

    Args:
        name: Of the model, in full.
        path: Its file or folder.
        error: What was raised.
    """
    fetched = (p for p in (path, *path.parents) if p.name.startswith("models--"))  # by the Hub
    kept = path if path.parent == torch_cache_path("") else next(fetched, None)
    advice = (
        f"delete {kept} to download it again"
        if kept
        else "check that its files are whole, and of one model"
    )
    place = "" if str(path) == name else f" from {path}"
    return CheckpointError(f"cannot load {name}{place}: {first_line(error)}; {advice}")


def _shards_of(index: Path) -> set[Path]:
    """The shards that an index lists.

    Raises:
        CheckpointError: It cannot be read.
    """
    try:
        names = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
        return {index.parent / name for name in names}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"cannot read {index}, the list of weights files: {error}") from error
