"""Baselines for tiltkit: published posterior samplers to compare with."""

__version__ = "0.1.0"
