"""Diagnosis: what is the matter with a checkpoint, and how its pictures were preprocessed."""

from toplabel.diagnosis.diagnosing import Diagnosis, diagnose
from toplabel.diagnosis.finding import Finding

__all__ = ["Diagnosis", "Finding", "diagnose"]
