"""Calibrating: scores that mean something, and a threshold for a wished precision."""

from toplabel.calibrating.calibrating import Calibrated, calibrate

__all__ = ["Calibrated", "calibrate"]
