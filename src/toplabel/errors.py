"""Every error that toplabel raises on purpose.

ToplabelError
├── ImageError(ValueError)          one input could not be labelled; `.code` is one of `ERROR_CODES`
├── DownloadError(OSError)          weights that cannot be had
├── ModelNotFound(LookupError)      a model name nobody knows
├── ModelError(ValueError)          a model that cannot be used as a classifier; says why
├── CheckpointError(ValueError)     a checkpoint file that cannot be read or does not fit
├── PreprocessError(ValueError)     preprocessing that is invalid or cannot be expressed
├── LabelsError(ValueError)         class names that do not fit the model
├── BundleError(ValueError)         a bundle that is damaged, newer than this version, or disagrees
├── EngineError(RuntimeError)       the engine failed or cannot be had
├── RunError(RuntimeError)          a run that cannot begin or go on; what is done is kept
├── UsageError(ValueError)          arguments that make no sense together
└── MissingDependency(ImportError)  an optional library is not installed; names the extra

ToplabelWarning(UserWarning)        something assumed or noticed that may make a label wrong
"""

from typing import Literal, get_args

ErrorCode = Literal[
    "not_found",
    "not_a_file",
    "permission_denied",
    "empty",
    "not_an_image",
    "unsupported_format",
    "truncated",
    "corrupt",
    "too_large",
    "wrong_size",
    "timeout",
    "fetch_failed",
    "non_finite",
    "out_of_memory",
    "worker_crash",
    "internal",
]

ERROR_CODES: tuple[ErrorCode, ...] = get_args(ErrorCode)


class ToplabelError(Exception):
    """Base of all errors that toplabel raises on purpose; its text is meant for people."""


class ImageError(ToplabelError, ValueError):
    """One input could not be labelled.

    Args:
        code: Which of the fixed `ERROR_CODES` this is.
        message: What was got, what is accepted, what to do.
    """

    code: ErrorCode
    message: str

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    def __reduce__(self) -> tuple[type, tuple[ErrorCode, str]]:
        return type(self), (self.code, self.message)


class DownloadError(ToplabelError, OSError):
    """Weights that are not on this machine and could not be fetched."""


class ModelNotFound(ToplabelError, LookupError):
    """A model name that no source knows."""


class ModelError(ToplabelError, ValueError):
    """A model that cannot be used as a classifier."""


class CheckpointError(ToplabelError, ValueError):
    """A checkpoint that cannot be read, or does not fit its architecture."""


class PreprocessError(ToplabelError, ValueError):
    """Preprocessing that is invalid, or a transform that cannot be expressed as such."""


class LabelsError(ToplabelError, ValueError):
    """Class names that do not fit the model."""


class BundleError(ToplabelError, ValueError):
    """A bundle that is damaged, too new, or no longer gives the logits it was checked with."""


class EngineError(ToplabelError, RuntimeError):
    """An engine that cannot be had here, or failed."""


class RunError(ToplabelError, RuntimeError):
    """A run that cannot begin, or cannot go on; what it has done is kept."""


class UsageError(ToplabelError, ValueError):
    """Arguments that make no sense, alone or together."""


class ToplabelWarning(UserWarning):
    """Something that was assumed or noticed and may make a label wrong; records name it, too."""


class MissingDependency(ToplabelError, ImportError):
    """An optional library is not installed."""
