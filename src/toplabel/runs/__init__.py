"""Runs: everything labelled, once, whatever happens."""

from toplabel.runs.flow import run
from toplabel.runs.summary import RunSummary

__all__ = ["RunSummary", "run"]
