"""Entries of this plugin. Imports nothing heavy: targets load on first use."""

from __future__ import annotations

from tiltkit.hookspecs import Entry, PriorEntry, ReaderEntry, hookimpl

__all__ = ["tiltkit_operators", "tiltkit_priors", "tiltkit_readers", "tiltkit_tasks"]

DATA_EXCHANGE = (
    "De Carlo et al., Scientific Data Exchange: a schema for HDF5-based storage of raw and analyzed"
    " data, J. Synchrotron Rad. 21 (2014) 1224-1230"
)
NEXUS = "Koennecke et al., The NeXus data format, J. Appl. Cryst. 48 (2015) 301-305"
HYPERSPY = "de la Pena et al., HyperSpy, doi:10.5281/zenodo.592838"


@hookimpl
def tiltkit_tasks() -> list[Entry]:
    """Reconstruction of scans, slice by slice."""
    return [
        Entry(
            name="ct-recon",
            target="tiltkit_ct.task:CtRecon",
            summary="posterior of the attenuation in the slices of a tomography scan",
        )
    ]


@hookimpl
def tiltkit_operators() -> list[Entry]:
    """Projectors."""
    return [
        Entry(
            name="ct.parallel",
            target="tiltkit_ct.parallel:ParallelBeam",
            summary="parallel beam, exact strip integrals; any axis, angles and grid",
        ),
        Entry(
            name="ct.fan",
            target="tiltkit_ct.fan:FanBeam",
            summary="fan beam on a flat detector",
        ),
        Entry(
            name="ct.cone",
            target="tiltkit_ct.cone:ConeBeam",
            summary="cone beam on a flat detector, separable footprints",
        ),
    ]


@hookimpl
def tiltkit_priors() -> list[PriorEntry]:
    """The prior that ships with the plugin."""
    return [
        PriorEntry(
            name="ct.general",
            target="tiltkit.priors.denoiser:network_prior",
            summary="slices of heads, chests and phantoms, a score network trained on real CT",
            channels=1,
            weights="tiltkit_ct:data/prior_ct.safetensors",
            sha256="856517f6725341d5719bdbe648c484c7380d3db0dd241afa6f9912640905d69a",
            licence="Apache-2.0",
        )
    ]


@hookimpl
def tiltkit_readers() -> list[ReaderEntry]:
    """Layouts of raw data."""
    return [
        ReaderEntry(
            name="ct.data_exchange",
            target="tiltkit_ct.data_exchange:DataExchange",
            summary="Data Exchange, as written at the APS and elsewhere",
            gives="ct.projections",
            patterns=("*.h5", "*.hdf5", "*.hdf"),
            cite=(DATA_EXCHANGE,),
        ),
        ReaderEntry(
            name="ct.nxtomo",
            target="tiltkit_ct.nxtomo:NxTomo",
            summary="NeXus NXtomo, as written at the ESRF, Diamond, PSI, ISIS and elsewhere",
            gives="ct.projections",
            patterns=("*.nxs", "*.nx", "*.h5", "*.hdf5"),
            cite=(NEXUS,),
        ),
        ReaderEntry(
            name="ct.hyperspy",
            target="tiltkit_ct.tilt_series:HyperSpy",
            summary="electron tilt series of HyperSpy and ETSpy",
            gives="ct.projections",
            patterns=("*.hspy", "*.h5"),
            cite=(HYPERSPY,),
        ),
        ReaderEntry(
            name="ct.tiff",
            target="tiltkit_ct.tiff_folder:TiffFolder",
            summary="folder of TIFF files, flats and darks by their names, or one TIFF file",
            gives="ct.projections",
            patterns=("*.tif", "*.tiff"),
        ),
        ReaderEntry(
            name="ct.mrc",
            target="tiltkit_ct.tilt_series:Mrc",
            summary="electron tilt series in MRC, angles from .rawtlt, .tlt or .mdoc beside it",
            gives="ct.projections",
            patterns=("*.mrc", "*.ali", "*.st"),
        ),
    ]
