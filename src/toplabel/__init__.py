"""toplabel: the predicted label of an image, according to a PyTorch classifier.

Importing it costs next to nothing: each public name is loaded when it is first used.
"""

from toplabel._version import __version__

TYPE_CHECKING = False  # checkers know it by name; importing `typing` would be most of the cost
if TYPE_CHECKING:
    from toplabel.calibrating import calibrate
    from toplabel.comparison import Comparison, compare
    from toplabel.diagnosis import Diagnosis, diagnose
    from toplabel.errors import (
        BundleError,
        CheckpointError,
        DownloadError,
        EngineError,
        ImageError,
        LabelsError,
        MissingDependency,
        ModelError,
        ModelNotFound,
        PreprocessError,
        RunError,
        ToplabelError,
        UsageError,
    )
    from toplabel.evaluation import Evaluation, evaluate
    from toplabel.explaining import explain
    from toplabel.image import ReadOptions
    from toplabel.labels import Labels
    from toplabel.loading import label, load, wrap
    from toplabel.prediction import Prediction
    from toplabel.predictor import Predictor
    from toplabel.preprocess import Preprocess
    from toplabel.runs import RunSummary, run

__all__ = [
    "BundleError",
    "CheckpointError",
    "Comparison",
    "Diagnosis",
    "DownloadError",
    "EngineError",
    "Evaluation",
    "ImageError",
    "Labels",
    "LabelsError",
    "MissingDependency",
    "ModelError",
    "ModelNotFound",
    "Prediction",
    "Predictor",
    "Preprocess",
    "PreprocessError",
    "ReadOptions",
    "RunError",
    "RunSummary",
    "ToplabelError",
    "UsageError",
    "__version__",
    "calibrate",
    "compare",
    "diagnose",
    "evaluate",
    "explain",
    "label",
    "load",
    "run",
    "wrap",
]

_HOME = {
    "label": "toplabel.loading",
    "load": "toplabel.loading",
    "wrap": "toplabel.loading",
    "Prediction": "toplabel.prediction",
    "Predictor": "toplabel.predictor",
    "Preprocess": "toplabel.preprocess",
    "Labels": "toplabel.labels",
    "ReadOptions": "toplabel.image",
    "RunSummary": "toplabel.runs",
    "run": "toplabel.runs",
    "calibrate": "toplabel.calibrating",
    "Comparison": "toplabel.comparison",
    "compare": "toplabel.comparison",
    "Diagnosis": "toplabel.diagnosis",
    "diagnose": "toplabel.diagnosis",
    "Evaluation": "toplabel.evaluation",
    "evaluate": "toplabel.evaluation",
    "explain": "toplabel.explaining",
}
"""Where a public name lives; errors, all in one file, are not listed."""


def __getattr__(name: str) -> object:
    """The public name `name`, loaded on first use."""
    if name not in __all__:
        raise AttributeError(f"module 'toplabel' has no attribute {name!r}")
    from importlib import import_module

    home = _HOME.get(name, "toplabel.errors")
    module = import_module(home)
    for public in __all__:  # all of that file at once: `load` the function hides `load` the file
        if _HOME.get(public, "toplabel.errors") == home and public != "__version__":
            globals()[public] = getattr(module, public)
    return globals()[name]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
