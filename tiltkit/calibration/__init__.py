"""Calibration: are intervals of posterior samples as wide as they say? Ranks, tests, factors."""
