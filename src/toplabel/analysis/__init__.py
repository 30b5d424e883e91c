"""What one asks of a model: evaluate, calibrate, compare, explain, doctor."""
