"""Helpers for tests of samplers, priors and operators, those of plugins too."""
