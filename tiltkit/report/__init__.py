"""The report page of a result."""

from tiltkit.report.page import write_report

__all__ = ["write_report"]
