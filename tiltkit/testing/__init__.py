"""Helpers for tests of samplers, priors and operators, for tiltkit and its plugins."""
