"""A model is compiled: exported to ONNX in a child process, and compared with eager PyTorch."""
