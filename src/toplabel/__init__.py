"""toplabel: the predicted label of an image, according to a PyTorch classifier.

Importing it costs next to nothing: each public name is loaded when it is first used. Editors and
type checkers find all names, with every argument, in `__init__.pyi`.
"""

from toplabel._version import __version__

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
    "TrainingResult",
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
    "train",
    "wrap",
]

_HOME = {
    "label": "toplabel.models.load",
    "load": "toplabel.models.load",
    "wrap": "toplabel.models.load",
    "Prediction": "toplabel.inference.prediction",
    "Predictor": "toplabel.inference.predictor",
    "Preprocess": "toplabel.preprocess.preprocess",
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
    "TrainingResult": "toplabel.training.result",
    "train": "toplabel.training.train",
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
