"""Calibrating: scores that mean something, and a threshold for a wished precision."""

from toplabel.analysis.calibrate.calibrate import Calibrated, calibrate

__all__ = ["Calibrated", "calibrate"]
