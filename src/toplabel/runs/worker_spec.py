"""Job: all that a worker in another process, or on another machine, has to know of a run."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from toplabel.bundle.bundle import Bundle
from toplabel.bundle.program import Program
from toplabel.inference.batch import Settings
from toplabel.inference.classifier import Classifier
from toplabel.inference.predictor import Predictor


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A model by its files on this machine, and how to run it. Can be pickled.

    Args:
        manifest: That of the bundle.
        program: The folder of its program.
        settings: What is wanted of every prediction.
        threads: Images worked on at once; None: one for each processor.
        batch_size: Images in one call of the engine; None: the engine's usual number.
    """

    manifest: dict[str, Any]
    program: str
    settings: Settings
    threads: int | None = None
    batch_size: int | None = None

    @classmethod
    def of(
        cls,
        bundle: Bundle,
        settings: Settings,
        *,
        threads: int | None = None,
        batch_size: int | None = None,
    ) -> Self:
        """The job of labelling with `bundle`."""
        return cls(
            manifest=bundle.to_manifest(),
            program=os.fspath(bundle.program.path.parent),
            settings=settings,
            threads=threads,
            batch_size=batch_size,
        )

    @property
    def model(self) -> str:
        """The model's name in full."""
        return str(self.manifest["name"])

    def open(self, warn: Callable[[str], None]) -> Predictor:
        """A predictor that does it.

        Raises:
            BundleError: The files are gone or damaged.
        """
        bundle = Bundle.from_manifest(self.manifest, Program.read(Path(self.program)))
        return Predictor(
            Classifier.of_bundle(bundle),
            threads=self.threads,
            batch_size=self.batch_size,
            exact=self.settings.exact,
            read=self.settings.read,
            warn=warn,
        )
