"""Fetch: a URL or a repository of the Hugging Face Hub in, the files of its weights out.

They lie in the cache that each library keeps itself, and what is there is used without asking the
network. Otherwise the network is asked once, with a time limit, and is missed within seconds.
"""

from __future__ import annotations

import hashlib
import json
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
from toplabel.errors import CheckpointError, DownloadError, ModelNotFound, ToplabelError
from toplabel.models.checkpoint import reading

SAFETENSORS = "model.safetensors"
PICKLE = "pytorch_model.bin"
_SHARD = re.compile(r"(?:model|pytorch_model)-\d{5}-of-\d{5}\.(?:safetensors|bin)")
_TIMEOUT_SECONDS = 20.0
_HASH_IN_NAME = re.compile(r"-([0-9a-f]{8,})\.")  # resnet50-11ad3fa6.pth
Notify = Callable[[str], None]


def torch_cache_path(url: str) -> Path:
    """Where torch keeps the file of that URL."""
    return Path(torch.hub.get_dir(), "checkpoints", os.path.basename(urlsplit(url).path))


def fetch_url(url: str, *, offline: bool, notify: Notify) -> Path:
    """The file of that URL in torch's cache, downloaded and its hash checked where it is not there.

    Raises:
        DownloadError: It is neither there nor to be had.
    """
    path = torch_cache_path(url)
    if path.is_file():
        return path
    if offline:
        raise DownloadError(
            f"{path.name} is not on this machine, and downloading is off; looked for {path}"
        )
    notify(f"downloading {url}")
    digest = _HASH_IN_NAME.search(path.name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _download(url, path, digest[1] if digest else "")
    except (OSError, HttpError) as error:
        raise DownloadError(
            f"{path.name} is not on this machine (looked for {path}) and could not be fetched"
            f" from {url}: {_reason(error)}"
        ) from error
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


def cached_snapshot(repository: str, revision: str | None, files: Sequence[str]) -> Path | None:
    """The folder in the Hub's cache that has one of `files` at that revision; None: there is none.

    Its name is the commit.
    """
    hub = require("huggingface_hub", extra="hf", purpose="the Hugging Face Hub")
    for name in files:
        found = hub.try_to_load_from_cache(repository, name, revision=revision)
        if isinstance(found, str):
            return Path(found).parents[name.count("/")]
    return None


def fetch_from_hub(
    repository: str,
    *,
    revision: str | None,
    choose: Callable[[list[str]], list[str]],
    notify: Notify,
) -> Path:
    """The folder in the Hub's cache with the chosen files; its name is the commit.

    Args:
        repository: ORG/NAME.
        revision: A branch, tag or commit; None is the main branch.
        choose: Of the names of all files, those to download.
        notify: Called before the download.

    Raises:
        ModelNotFound: The Hub has no such repository or revision.
        DownloadError: The network or the repository cannot be reached.
    """
    hub = require("huggingface_hub", extra="hf", purpose="the Hugging Face Hub")
    shown = repository if revision is None else f"{repository}@{revision}"
    constants = require("huggingface_hub.constants", extra="hf", purpose="the Hugging Face Hub")
    looked = f"looked in {constants.HF_HUB_CACHE}"
    if constants.HF_HUB_OFFLINE:
        raise DownloadError(
            f"{shown} is not on this machine ({looked}), and HF_HUB_OFFLINE forbids to download it"
        )
    try:
        # Asked first because it fails at once without a network, where a download tries for 20 s.
        info = hub.HfApi().repo_info(repository, revision=revision, timeout=_TIMEOUT_SECONDS)
        names = choose([file.rfilename for file in info.siblings])
        notify(f"downloading {shown} from the Hugging Face Hub")
        for name in names:
            path = hub.hf_hub_download(repository, name, revision=revision)
    except ToplabelError:  # of `choose`
        raise
    except Exception as error:  # the errors of the Hub's HTTP library share no narrower base
        raise _hub_error(shown, looked, error) from error
    return Path(path).parents[names[-1].count("/")]


def _hub_error(shown: str, looked: str, error: Exception) -> DownloadError | ModelNotFound:
    """What went wrong with the Hub, and what to do."""
    hub_errors = require("huggingface_hub.errors", extra="hf", purpose="the Hugging Face Hub")
    if isinstance(error, hub_errors.GatedRepoError):
        return DownloadError(
            f"{shown} asks for consent: accept its terms on the Hugging Face Hub, then log in with"
            " `hf auth login`"
        )
    if isinstance(error, hub_errors.RevisionNotFoundError):
        return ModelNotFound(f"the Hugging Face Hub has no such revision: {shown}")
    if isinstance(error, hub_errors.RepositoryNotFoundError):
        return ModelNotFound(
            f"the Hugging Face Hub has no repository {shown}, or it is private: then log in with"
            " `hf auth login`"
        )
    return DownloadError(
        f"{shown} is not on this machine ({looked}) and could not be fetched from the Hugging Face"
        f" Hub: {_reason(error)}"
    )


def _reason(error: BaseException) -> str:
    """The last cause of an error, in one line."""
    while isinstance(getattr(error, "reason", None), BaseException):  # URLError wraps another
        error = error.reason  # type: ignore[attr-defined]
    return first_line(error)


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


def demand_safe_pickles(files: Collection[Path]) -> None:
    """Stop before a pickled file is read by a torch that it could harm.

    Raises:
        MissingDependency: torch is older than 2.10.
    """
    for path in files:
        if path.suffix not in (".safetensors", ".json"):
            reading.demand_safe_pickles(path)


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
