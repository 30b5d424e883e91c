"""The one door to ONNX Runtime, whose official builds report their use unless told not to."""

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # heard only before the library is loaded

import onnxruntime as ort

__all__ = ["ort"]
