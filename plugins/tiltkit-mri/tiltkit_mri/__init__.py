"""MRI for tiltkit: reconstruction of undersampled Cartesian scans as posterior samples."""

__version__ = "0.1.0"
