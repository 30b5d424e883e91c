"""Calibration: scores that mean something, and a threshold for a wished precision."""
