"""A compiled model: program, reference outputs, cache, one file (.toplabel), other tools' ONNX."""
