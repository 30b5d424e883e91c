"""A model by its name, as its source gives it."""

from typing import Any

from toplabel.bundle.model import Model
from toplabel.models import open as opening
from toplabel.models.ref import ModelRef


def load_model(name: Any, **options: Any) -> Model:
    return opening.load_model(ModelRef.parse(name), **options)
