"""Made by scripts/write_stub.py; change the code and run it again."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, overload

from torch import nn

from toplabel.analysis.data.dataset import Dataset
from toplabel.labels.given import LabelsLike
from toplabel.models.options import Dtype, EngineChoice
from toplabel.runs.options import Place
from toplabel.runs.run import Source
from toplabel.runs.summary import Progress

from toplabel.analysis.calibrate import calibrate as calibrate
from toplabel.analysis.compare import Comparison as Comparison, compare as compare
from toplabel.analysis.doctor.diagnose import Diagnosis as Diagnosis
from toplabel.analysis.evaluate.evaluation import Evaluation as Evaluation, evaluate as evaluate
from toplabel.analysis.explain.explain import explain as explain
from toplabel.errors import (
    BundleError as BundleError,
    CheckpointError as CheckpointError,
    DownloadError as DownloadError,
    EngineError as EngineError,
    ImageError as ImageError,
    LabelsError as LabelsError,
    MissingDependency as MissingDependency,
    ModelError as ModelError,
    ModelNotFound as ModelNotFound,
    PreprocessError as PreprocessError,
    RunError as RunError,
    ToplabelError as ToplabelError,
    ToplabelWarning as ToplabelWarning,
    UsageError as UsageError,
)
from toplabel.image.options import ReadOptions as ReadOptions
from toplabel.inference.prediction import Prediction as Prediction
from toplabel.inference.predictor import Predictor as Predictor
from toplabel.labels.labels import Labels as Labels
from toplabel.preprocess.preprocess import Preprocess as Preprocess
from toplabel.runs.summary import RunSummary as RunSummary

__version__: str
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

def diagnose(
    model: str | os.PathLike[str] | nn.Module,
    *,
    images: str | os.PathLike[str] | Sequence[object] | None = ...,
    labelled: Dataset | str | os.PathLike[str] | None = ...,
    size: int | None = ...,
    arch: str | nn.Module | Callable[..., nn.Module] | None = ...,
    arch_args: Mapping[str, Any] = ...,
    script: str | os.PathLike[str] | None = ...,
    labels: LabelsLike | None = ...,
    preprocess: object = ...,
    multi_label: bool = ...,
    output: str | int | None = ...,
    ema: bool = ...,
    state_dict: str | None = ...,
    allow_globals: Sequence[str] = ...,
    allow_partial: bool = ...,
    trust: bool = ...,
    recompile: bool = ...,
) -> Diagnosis: ...
@overload
def label(  # type: ignore[overload-overlap]
    source: list[Any] | tuple[Any, ...],
    *,
    model: str | os.PathLike[str] | None = ...,
    arch: str | nn.Module | Callable[..., nn.Module] | None = ...,
    arch_args: Mapping[str, Any] = ...,
    script: str | os.PathLike[str] | None = ...,
    labels: LabelsLike | None = ...,
    preprocess: object = ...,
    multi_label: bool = ...,
    output: str | int | None = ...,
    ema: bool = ...,
    state_dict: str | None = ...,
    allow_globals: Sequence[str] = ...,
    allow_partial: bool = ...,
    trust: bool = ...,
    recompile: bool = ...,
    engine: EngineChoice = ...,
    device: str = ...,
    dtype: Dtype = ...,
    threads: int | None = ...,
    batch_size: int | None = ...,
    exact: bool = ...,
    read: ReadOptions = ...,
) -> list[str | None]: ...
@overload
def label(
    source: object,
    *,
    model: str | os.PathLike[str] | None = ...,
    arch: str | nn.Module | Callable[..., nn.Module] | None = ...,
    arch_args: Mapping[str, Any] = ...,
    script: str | os.PathLike[str] | None = ...,
    labels: LabelsLike | None = ...,
    preprocess: object = ...,
    multi_label: bool = ...,
    output: str | int | None = ...,
    ema: bool = ...,
    state_dict: str | None = ...,
    allow_globals: Sequence[str] = ...,
    allow_partial: bool = ...,
    trust: bool = ...,
    recompile: bool = ...,
    engine: EngineChoice = ...,
    device: str = ...,
    dtype: Dtype = ...,
    threads: int | None = ...,
    batch_size: int | None = ...,
    exact: bool = ...,
    read: ReadOptions = ...,
) -> str: ...
def load(
    model: str | os.PathLike[str] | None = ...,
    *,
    arch: str | nn.Module | Callable[..., nn.Module] | None = ...,
    arch_args: Mapping[str, Any] = ...,
    script: str | os.PathLike[str] | None = ...,
    labels: LabelsLike | None = ...,
    preprocess: object = ...,
    multi_label: bool = ...,
    output: str | int | None = ...,
    ema: bool = ...,
    state_dict: str | None = ...,
    allow_globals: Sequence[str] = ...,
    allow_partial: bool = ...,
    trust: bool = ...,
    recompile: bool = ...,
    engine: EngineChoice = ...,
    device: str = ...,
    dtype: Dtype = ...,
    threads: int | None = ...,
    batch_size: int | None = ...,
    exact: bool = ...,
    read: ReadOptions = ...,
) -> Predictor: ...
def run(
    source: Source | Sequence[Source],
    output: Source,
    *,
    model: Source | Predictor | None = ...,
    top_k: int = ...,
    threshold: float | None = ...,
    format: str | None = ...,
    all_scores: bool = ...,
    report: str | os.PathLike[str] | None = ...,
    copy_to: str | os.PathLike[str] | None = ...,
    link_to: str | os.PathLike[str] | None = ...,
    on: Place = ...,
    column: str | None = ...,
    check_inputs: bool = ...,
    restart: bool = ...,
    max_errors: int | None = ...,
    shard_size: int | None = ...,
    progress: Callable[[Progress], None] | None = ...,
    arch: str | nn.Module | Callable[..., nn.Module] | None = ...,
    arch_args: Mapping[str, Any] = ...,
    script: str | os.PathLike[str] | None = ...,
    labels: LabelsLike | None = ...,
    preprocess: object = ...,
    multi_label: bool = ...,
    model_output: str | int | None = ...,
    ema: bool = ...,
    state_dict: str | None = ...,
    allow_globals: Sequence[str] = ...,
    allow_partial: bool = ...,
    trust: bool = ...,
    recompile: bool = ...,
    engine: EngineChoice = ...,
    device: str = ...,
    dtype: Dtype = ...,
    threads: int | None = ...,
    batch_size: int | None = ...,
    exact: bool = ...,
    read: ReadOptions = ...,
) -> RunSummary: ...
def wrap(
    module: nn.Module,
    *,
    preprocess: object,
    labels: LabelsLike | None = ...,
    multi_label: bool = ...,
    output: str | int | None = ...,
    name: str | None = ...,
    engine: EngineChoice = ...,
    device: str = ...,
    dtype: Dtype = ...,
    threads: int | None = ...,
    batch_size: int | None = ...,
    exact: bool = ...,
    read: ReadOptions = ...,
) -> Predictor: ...
