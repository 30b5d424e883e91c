"""Compile: a model in, a program out that gives the logits of eager PyTorch, or the reason."""

from toplabel.compile.compiling import compile_model
from toplabel.compile.fingerprint import program_key, weights_sha256
from toplabel.program import NotCompiled

__all__ = ["NotCompiled", "compile_model", "program_key", "weights_sha256"]
