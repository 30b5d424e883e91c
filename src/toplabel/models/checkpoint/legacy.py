"""Legacy: the format of torch before 1.6 in, its pickle out, once all its numbers are there."""

from __future__ import annotations

from typing import Any, BinaryIO

from toplabel.errors import CheckpointError
from toplabel.models.checkpoint.literals import ByteSource, cut_short, number
from toplabel.models.checkpoint.oldtar import is_tar
from toplabel.models.checkpoint.pickles import Pickled, read_pickle
from toplabel.models.checkpoint.storages import Storage
from toplabel.models.checkpoint.tensors import ITEM_SIZES
from toplabel.models.checkpoint.unpickler import Budget

#: What follows the pickle protocol's number in every such file: a pickled constant.
MAGIC = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_PROTOCOL = 1001
_read_count = number("<q")


def is_legacy(start: bytes) -> bool:
    """Whether a file that begins so is one."""
    return start[:1] == b"\x80" and start[2 : 2 + len(MAGIC)] == MAGIC


def read_legacy(file: BinaryIO, size: int) -> Pickled:
    """What the file's main pickle says.

    Raises:
        CheckpointError: It is damaged, or not all numbers that it speaks of are there.
    """
    if is_tar(file.read(512)):  # torch tries that first
        raise CheckpointError("it is a tar archive and a torch file in one: nothing writes such")
    file.seek(0)
    source, budget = ByteSource(file, end=size), Budget()
    read_pickle(source, budget=budget)  # the magic number
    if read_pickle(source, budget=budget).content != _PROTOCOL:
        raise CheckpointError("its version is none that torch ever wrote; download it again")
    machine = read_pickle(source, budget=budget).content
    if isinstance(machine, dict) and machine.get("little_endian") is False:
        raise CheckpointError("it was saved on a big-endian machine; save it anew on another")
    pickled = read_pickle(source, budget=budget)
    keys = read_pickle(source, budget=budget).content
    _check_storages(source, keys, {storage.key: storage for storage in pickled.storages})
    return pickled


def _check_storages(source: ByteSource, keys: Any, storages: dict[str, Storage]) -> None:
    """Every storage follows once, and is as long as the pickle says."""
    plain = isinstance(keys, list) and all(isinstance(key, str) for key in keys)
    if not plain or len(keys) != len(storages) or set(keys) != storages.keys():
        raise CheckpointError("its list of storages is not that of its tensors; download it again")
    for key in keys:
        storage = storages[key]
        if _read_count(source) != storage.num_elements:
            raise cut_short()
        source.skip(storage.num_elements * ITEM_SIZES[storage.dtype])
