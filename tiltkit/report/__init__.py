"""Pages and pictures of results, and metrics against true images."""

from tiltkit.report.page import write_report

__all__ = ["write_report"]
