"""toplabel: the predicted label of an image, according to a PyTorch classifier.

Importing it costs next to nothing: each public name is loaded when it is first used.
"""

from toplabel._version import __version__

TYPE_CHECKING = False  # checkers know it by name; importing `typing` would be most of the cost
if TYPE_CHECKING:
    from toplabel.analysis.calibrate import calibrate
    from toplabel.analysis.compare import Comparison, compare
    from toplabel.analysis.doctor.diagnose import Diagnosis, diagnose
    from toplabel.analysis.evaluate.evaluation import Evaluation, evaluate
    from toplabel.analysis.explain.explain import explain
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
        ToplabelWarning,
        UsageError,
    )
    from toplabel.image.options import ReadOptions
    from toplabel.inference.prediction import Prediction
    from toplabel.inference.predictor import Predictor
    from toplabel.labels.labels import Labels
    from toplabel.models.load import label, load, wrap
    from toplabel.preprocess import Preprocess
    from toplabel.runs.run import run
    from toplabel.runs.summary import RunSummary

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
    "ToplabelWarning",
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
    "label": "toplabel.models.load",
    "load": "toplabel.models.load",
    "wrap": "toplabel.models.load",
    "Prediction": "toplabel.inference.prediction",
    "Predictor": "toplabel.inference.predictor",
    "Preprocess": "toplabel.preprocess",
    "Labels": "toplabel.labels.labels",
    "ReadOptions": "toplabel.image.options",
    "RunSummary": "toplabel.runs.summary",
    "run": "toplabel.runs.run",
    "calibrate": "toplabel.analysis.calibrate",
    "Comparison": "toplabel.analysis.compare",
    "compare": "toplabel.analysis.compare",
    "Diagnosis": "toplabel.analysis.doctor.diagnose",
    "diagnose": "toplabel.analysis.doctor.diagnose",
    "Evaluation": "toplabel.analysis.evaluate.evaluation",
    "evaluate": "toplabel.analysis.evaluate.evaluation",
    "explain": "toplabel.analysis.explain.explain",
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
