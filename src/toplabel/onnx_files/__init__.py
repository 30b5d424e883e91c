"""ONNX files from elsewhere: one in, a bundle out, checked against itself by ONNX Runtime."""

from toplabel.onnx_files.describing import describe_onnx
from toplabel.onnx_files.opening import open_onnx

__all__ = ["describe_onnx", "open_onnx"]
