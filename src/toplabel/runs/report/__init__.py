"""Report: labelled inputs go in, one HTML file comes out that shows them without a network."""

from toplabel.runs.report.shown import Shown
from toplabel.runs.report.writing import write_report

__all__ = ["Shown", "write_report"]
