"""Tomography for tiltkit: reconstruction of X-ray, neutron and electron scans as samples."""

__version__ = "0.1.0"
