"""tiltkit: posterior samples, uncertainty and a certificate from instrument files."""

from __future__ import annotations

__version__ = "0.1.0"
