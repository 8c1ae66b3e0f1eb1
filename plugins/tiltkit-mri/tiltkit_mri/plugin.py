"""Entries of this plugin. Imports nothing heavy: targets load on first use."""

from __future__ import annotations

from tiltkit.hookspecs import Entry, PriorEntry, ReaderEntry, WriterEntry, hookimpl

__all__ = [
    "tiltkit_operators", "tiltkit_priors", "tiltkit_readers", "tiltkit_tasks", "tiltkit_writers",
]  # fmt: skip

ESPIRIT = (
    "Uecker et al., ESPIRiT: an eigenvalue approach to autocalibrating parallel MRI, Magn. Reson."
    " Med. 71 (2014) 990-1001"
)
SENSE = (
    "Pruessmann et al., SENSE: sensitivity encoding for fast MRI, Magn. Reson. Med. 42 (1999)"
    " 952-962"
)
TOEPLITZ = (
    "Fessler et al., Toeplitz-based iterative image reconstruction for MRI with correction for"
    " magnetic field inhomogeneity, IEEE Trans. Signal Process. 53 (2005) 3393-3402"
)
FINUFFT = (
    "Barnett et al., A parallel nonuniform fast Fourier transform library based on an exponential"
    " of semicircle kernel, SIAM J. Sci. Comput. 41 (2019) C479-C504"
)
FASTMRI = (
    "Zbontar et al., fastMRI: an open dataset and benchmarks for accelerated MRI, arXiv:1811.08839"
)
ISMRMRD = (
    "Inati et al., ISMRM raw data format: a proposed standard for MRI raw datasets, Magn. Reson."
    " Med. 77 (2017) 411-421"
)


@hookimpl
def tiltkit_tasks() -> list[Entry]:
    """Reconstruction of Cartesian scans."""
    return [
        Entry(
            name="mri-recon",
            target="tiltkit_mri.task:MriRecon",
            summary="posterior of the image of an undersampled Cartesian MRI scan",
            cite=(ESPIRIT, SENSE),
        )
    ]


@hookimpl
def tiltkit_operators() -> list[Entry]:
    """Forward models of scans."""
    return [
        Entry(
            name="mri.cartesian",
            target="tiltkit_mri.operators:CartesianSense",
            summary="several coils, k-space columns left out; solved exactly",
            cite=(SENSE,),
        ),
        Entry(
            name="mri.sense",
            target="tiltkit_mri.sense:MaskedSense",
            summary="several coils, any k-space points left out; solved by conjugate gradients",
            cite=(SENSE,),
        ),
        Entry(
            name="mri.masked_fft",
            target="tiltkit_mri.operators:MaskedFourier",
            summary="one coil, any k-space points left out; solved exactly",
        ),
        Entry(
            name="mri.non_cartesian",
            target="tiltkit_mri.non_cartesian:NonCartesianSense",
            summary="several coils, samples anywhere in k-space: radial, spiral and others",
            requires=("finufft",),
            cite=(SENSE, TOEPLITZ, FINUFFT),
        ),
    ]


@hookimpl
def tiltkit_priors() -> list[PriorEntry]:
    """The priors that ship with the plugin."""
    return [
        PriorEntry(
            name="mri.brain",
            target="tiltkit.priors.denoiser:network_prior",
            summary="complex images of heads, a score network trained on real scans",
            channels=2,
            weights="tiltkit_mri:data/prior_brain.safetensors",
            sha256="b32dda004b1b43c0ff57c6e364fd790defe4a7aa9d5b7d7c7f78e8d4b5810161",
            licence="Apache-2.0",
            fallback="mri.wide",
        ),
        PriorEntry(
            name="mri.wide",
            target="tiltkit.priors.denoiser:network_prior",
            summary="complex images of any content, a score network for what is no head",
            channels=2,
            weights="tiltkit_mri:data/prior_wide.safetensors",
            sha256="f8b9a03ba7ad05ce4f13ea7437b00d148fd273a61cc71dfc4b8b36cd0783542b",
            licence="Apache-2.0",
        ),
    ]


@hookimpl
def tiltkit_readers() -> list[ReaderEntry]:
    """Layouts of raw data."""
    return [
        ReaderEntry(
            name="mri.fastmri",
            target="tiltkit_mri.fastmri:FastMri",
            summary="fastMRI: dataset kspace at the root, single- and multi-coil",
            gives="mri.kspace",
            patterns=("*.h5", "*.hdf5"),
            cite=(FASTMRI,),
        ),
        ReaderEntry(
            name="mri.ismrmrd",
            target="tiltkit_mri.ismrmrd:Ismrmrd",
            summary="ISMRMRD raw data: Cartesian slices and volumes, noise scan, calibration",
            gives="mri.kspace",
            patterns=("*.h5", "*.mrd"),
            cite=(ISMRMRD,),
        ),
        ReaderEntry(
            name="mri.cfl",
            target="tiltkit_mri.arrays:Cfl",
            summary="BART: .cfl with .hdr, Cartesian slices",
            gives="mri.kspace",
            patterns=("*.cfl", "*.hdr"),
        ),
        ReaderEntry(
            name="mri.npy",
            target="tiltkit_mri.arrays:Npy",
            summary="one array of numpy with the k-space of a Cartesian scan",
            gives="mri.kspace",
            patterns=("*.npy",),
        ),
    ]


@hookimpl
def tiltkit_writers() -> list[WriterEntry]:
    """Formats of other MRI software."""
    return [
        WriterEntry(
            name="cfl",
            target="tiltkit_mri.cfl_writer:write_cfl",
            summary="BART: complex mean, standard deviation; with samples=true samples",
            suffix=".cfl",
            beside=(".hdr", ".std.cfl", ".std.hdr"),
            optional=(".samples.cfl", ".samples.hdr"),
        ),
        WriterEntry(
            name="dicom",
            target="tiltkit_mri.dicom_writer:write_dicom",
            summary="DICOM: series of mean and standard deviation; also=phase+... further ones",
            requires=("pydicom",),
            extra="dicom",
            suffix=".dicom",
            folder=("posterior-*.dcm",),
        ),
    ]
