"""Particles: their weights and resampling, the noise ladder, random numbers."""
