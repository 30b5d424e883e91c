"""Diagnosis: what is the matter with a checkpoint, and how its pictures were preprocessed."""

from toplabel.analysis.doctor.diagnose import Diagnosis, diagnose
from toplabel.analysis.doctor.finding import Finding

__all__ = ["Diagnosis", "Finding", "diagnose"]
