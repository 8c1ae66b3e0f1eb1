"""Baselines for tiltkit: other posterior samplers, to compare with on one's own data."""

__version__ = "0.1.0"
