"""Deblurring for tiltkit: deconvolution of microscope images and volumes as posterior samples."""

__version__ = "0.1.0"
