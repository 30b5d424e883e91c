"""Cache: what was compiled before, found again without hashing anything and without torch."""

from toplabel.bundle.cache.store import (
    cache_dir,
    file_sha256,
    find_entry,
    find_program,
    forget_program,
    optimised_folder,
    store_entry,
    store_program,
)

__all__ = [
    "cache_dir",
    "file_sha256",
    "find_entry",
    "find_program",
    "forget_program",
    "optimised_folder",
    "store_entry",
    "store_program",
]
