"""The predicted label of an image, according to a PyTorch classifier.

    toplabel.label("cat.jpg")                       'tabby', by the built-in model
    model = toplabel.load("resnet50")               or "best.pth", arch=MyCNN, labels=names, ...
    model("cat.jpg")                                Prediction(label='tabby', score=0.71, ...)
    model(["cat.jpg", "dog.jpg"]), model("photos/") a list of them
    for prediction in model.stream(paths): ...      any number, in order, in bounded memory

Models
    load(model)             a predictor for a name, a checkpoint, a bundle or an ONNX file
    wrap(module)            one for a network of yours
    Predictor               labels images; .labels, .preprocess, .name, .save("cats.toplabel")
    Prediction              .label, .score, .top, .error, .warnings, .to_dict()
Many images
    run(inputs, output)     each image once, into Parquet, CSV or JSONL; the same call resumes
    optimize(model, images) the fastest way to compute it here that keeps its labels
Your own classes
    train("photos/")        a classifier from a folder with one sub-folder per class
What a model is worth
    evaluate(model, data)   accuracy with its interval, per class, calibration
    calibrate(model, data)  scores that mean something
    compare(a, b, images)   where two ways to label differ: pixels, tensor, logits, label
    diagnose(checkpoint)    what is wrong with a file, and how its images were prepared
    explain(model, image)   the evidence in an image for its label
What they take and raise
    Labels, Preprocess, ReadOptions; read_labels("names.csv"), read_image("cat.tif")
    ToplabelError           of every error; ImageError has a .code; ToplabelWarning

help(toplabel.load) and so on list all arguments.
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
    "Explanation",
    "ImageError",
    "Labels",
    "LabelsError",
    "MissingDependency",
    "ModelError",
    "ModelNotFound",
    "Prediction",
    "Predictions",
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
    "optimize",
    "read_image",
    "read_labels",
    "run",
    "train",
    "wrap",
]

_HOME = {
    "label": "toplabel.models.load",
    "load": "toplabel.models.load",
    "wrap": "toplabel.models.load",
    "Prediction": "toplabel.inference.prediction",
    "Predictions": "toplabel.inference.prediction",
    "Predictor": "toplabel.inference.predictor",
    "Preprocess": "toplabel.preprocess.preprocess",
    "Labels": "toplabel.labels.labels",
    "ReadOptions": "toplabel.image.options",
    "RunSummary": "toplabel.runs.summary",
    "run": "toplabel.runs.run",
    "calibrate": "toplabel.analysis.calibrate",
    "optimize": "toplabel.models.optimize",
    "Comparison": "toplabel.analysis.compare",
    "compare": "toplabel.analysis.compare",
    "Diagnosis": "toplabel.analysis.doctor.diagnose",
    "diagnose": "toplabel.analysis.doctor.diagnose",
    "Evaluation": "toplabel.analysis.evaluate.evaluation",
    "evaluate": "toplabel.analysis.evaluate.evaluation",
    "Explanation": "toplabel.analysis.explain.pipeline",
    "explain": "toplabel.analysis.explain.explain",
    "TrainingResult": "toplabel.training.result",
    "train": "toplabel.training.train",
    "read_image": "toplabel.image.pixels",
    "read_labels": "toplabel.labels.files",
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
    return sorted(__all__)
