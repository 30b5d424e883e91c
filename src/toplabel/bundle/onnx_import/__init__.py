"""ONNX files from elsewhere: one in, a bundle out, checked against itself by ONNX Runtime."""

from toplabel.bundle.onnx_import.describing import describe_onnx
from toplabel.bundle.onnx_import.opening import open_onnx

__all__ = ["describe_onnx", "open_onnx"]
