"""Packed: a bundle as one file, `cats.toplabel`: written, opened, described.

A zip file whose members are stored as they are, so that any tool can look into it:

goldens.npz      golden inputs, and the outputs the program must give
program.onnx     the program; weights that do not fit into it follow as further members
program.json     what is known of the program
manifest.json    name, recipe, labels, provenance; sha256 of every other member and of itself
"""

from toplabel.bundle.bundle import is_bundle
from toplabel.bundle.file.archive import FORMAT
from toplabel.bundle.file.describing import describe_packed
from toplabel.bundle.file.opening import open_packed
from toplabel.bundle.file.packing import check_target, pack

__all__ = ["FORMAT", "describe_packed", "check_target", "is_bundle", "open_packed", "pack"]
