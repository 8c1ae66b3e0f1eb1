"""Entries of this plugin. Imports nothing heavy: targets load on first use."""

from __future__ import annotations

from tiltkit.hookspecs import Entry, PriorEntry, ReaderEntry, hookimpl

__all__ = ["tiltkit_operators", "tiltkit_priors", "tiltkit_readers", "tiltkit_tasks"]

RICHARDSON = (
    "Richardson, Bayesian-based iterative method of image restoration, J. Opt. Soc. Am. 62 (1972)"
    " 55-59"
)
BERTERO = (
    "Bertero and Boccacci, A simple method for the reduction of boundary effects in the"
    " Richardson-Lucy approach to image deconvolution, Astron. Astrophys. 437 (2005) 369-374"
)
FOI = (
    "Foi et al., Practical Poissonian-Gaussian noise modeling and fitting for single-image"
    " raw-data, IEEE Trans. Image Process. 17 (2008) 1737-1754"
)
BDV = (
    "Pietzsch et al., BigDataViewer: visualization and processing for large image data sets,"
    " Nature Methods 12 (2015) 481-483"
)
ILASTIK = (
    "Berg et al., ilastik: interactive machine learning for (bio)image analysis, Nature Methods 16"
    " (2019) 1226-1232"
)
OME_TIFF = (
    "Goldberg et al., The Open Microscopy Environment (OME) data model and XML file, Genome Biol. 6"
    " (2005) R47"
)
OME_ZARR = (
    "Moore et al., OME-Zarr: a cloud-optimized bioimaging file format with international community"
    " support, Histochem. Cell Biol. 160 (2023) 223-251"
)


@hookimpl
def tiltkit_tasks() -> list[Entry]:
    """Deconvolution of images and volumes."""
    return [
        Entry(
            name="deblur",
            target="tiltkit_deblur.task:Deblur",
            summary="posterior of microscope images or volumes blurred by a point spread function",
            cite=(RICHARDSON, BERTERO, FOI),
        )
    ]


@hookimpl
def tiltkit_operators() -> list[Entry]:
    """Forward models."""
    return [
        Entry(
            name="deblur.convolution",
            target="tiltkit_deblur.convolution:Convolution",
            summary="circular convolution in 2-D or 3-D; solved exactly",
        )
    ]


VOLUMES = PriorEntry(
    name="deblur.stacks",
    target="tiltkit.priors.denoiser:network_prior",
    summary="five neighbouring planes of fluorescence volumes, a score network",
    channels=5,
    weights="tiltkit_deblur:data/prior_volumes.safetensors",
    sha256="2198da97ee5f0bbcdf8aadd7c43af64b93c8c56264d14ced72506e6d307aa1f4",
    licence="Apache-2.0",
)


@hookimpl
def tiltkit_priors() -> list[PriorEntry]:
    """The priors that ship with the plugin."""
    return [
        PriorEntry(
            name="deblur.microscopy",
            target="tiltkit_deblur.prior:microscopy",
            summary="fluorescence images, and volumes through deblur.stacks; nonnegative",
            channels=1,
            weights="tiltkit_deblur:data/prior_microscopy.safetensors",
            sha256="0d115efc9a2a4c91a153c31b5b8344fe3792794e502889a5e0d9fa3f3bbe6213",
            licence="Apache-2.0",
        ),
        VOLUMES,
    ]


@hookimpl
def tiltkit_readers() -> list[ReaderEntry]:
    """Layouts of microscope files; all give `tiltkit_deblur.volume.Volume`."""

    def reader(
        name: str, target: str, summary: str, patterns: tuple[str, ...], *cite: str,
        requires: tuple[str, ...] = (), extra: str = "",
    ) -> ReaderEntry:  # fmt: skip
        return ReaderEntry(
            name=f"deblur.{name}",
            target=f"tiltkit_deblur.{target}",
            summary=summary,
            gives="deblur.volume",
            patterns=patterns,
            requires=requires,
            extra=extra,
            cite=cite,
        )

    return [
        reader("bdv", "readers.bdv:BigDataViewer", "BigDataViewer: HDF5 beside its XML",
               ("*.xml", "*.h5", "*.hdf5"), BDV),
        reader("imaris", "readers.imaris:Imaris", "Imaris 5.5 HDF5", ("*.ims",)),
        reader("hdf5", "readers.hdf5:PlainHdf5", "ilastik and plain HDF5: one stack of images",
               ("*.h5", "*.hdf5", "*.ilp"), ILASTIK),
        reader("tiff", "readers.tiff:Tiff", "TIFF, OME-TIFF and ImageJ's",
               ("*.tif", "*.tiff"), OME_TIFF),
        reader("zarr", "readers.omezarr:OmeZarr", "OME-Zarr folders",
               ("*.zarr",), OME_ZARR, requires=("zarr",), extra="zarr"),
        reader("fits", "readers.fits:Fits", "FITS images",
               ("*.fits", "*.fit", "*.fts", "*.fits.gz"), requires=("astropy",), extra="fits"),
        reader("czi", "readers.czi:Czi", "CZI of ZEISS microscopes",
               ("*.czi",), requires=("pylibCZIrw",), extra="czi"),
        reader("nd2", "readers.nd2:Nd2", "ND2 of Nikon microscopes",
               ("*.nd2",), requires=("nd2",), extra="nd2"),
    ]  # fmt: skip
