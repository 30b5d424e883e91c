"""Tensor -> logits -> prediction: engines, batches, the predictor, its checks."""
