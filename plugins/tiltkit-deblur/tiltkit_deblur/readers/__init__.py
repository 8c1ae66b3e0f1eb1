"""Readers of microscope files, one per layout; each gives a `tiltkit_deblur.volume.Volume`."""
