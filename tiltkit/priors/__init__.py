"""Distributions over images, known through the scores of their noised versions."""
