"""Compile: a model in, a program out that gives the logits of eager PyTorch, or the reason."""

from toplabel.bundle.program import NotCompiled
from toplabel.models.compile.compiling import compile_model
from toplabel.models.compile.fingerprint import program_key, weights_sha256

__all__ = ["NotCompiled", "compile_model", "program_key", "weights_sha256"]
