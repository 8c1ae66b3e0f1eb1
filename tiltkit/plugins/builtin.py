"""tiltkit's own samplers, priors, operators, metrics and writers, in the hooks of a plugin."""

from __future__ import annotations

from tiltkit.hookspecs import Entry, PriorEntry, WriterEntry, hookimpl

__all__ = [
    "tiltkit_metrics", "tiltkit_operators", "tiltkit_priors", "tiltkit_samplers",
    "tiltkit_writers",
]  # fmt: skip

ALMC = (
    "Parulekar et al., Efficient approximate posterior sampling with annealed Langevin Monte Carlo,"
    " ICLR 2026, arXiv:2508.07631"
)
TDS = (
    "Wu et al., Practical and asymptotically exact conditional sampling in diffusion models,"
    " NeurIPS 2023, arXiv:2306.17775"
)
CHAMBOLLE = (
    "Chambolle, An algorithm for total variation minimization and applications, J. Math. Imaging"
    " Vis. 20 (2004) 89-97"
)
DEEPINV = (
    "Tachella et al., DeepInverse: a Python package for solving imaging inverse problems with deep"
    " learning, J. Open Source Softw. (2025), doi:10.21105/joss.08923"
)
EPLL = (
    "Zoran and Weiss, From learning models of natural image patches to whole image restoration,"
    " ICCV 2011, doi:10.1109/ICCV.2011.6126278"
)
SPINNING = (
    "Coifman and Donoho, Translation-invariant de-noising, in Wavelets and Statistics, Springer"
    " (1995) 125-150"
)
MOMENT_MATCHING = (
    "Rozet et al., Learning diffusion priors from observations by expectation maximization, NeurIPS"
    " 2024, arXiv:2405.13712"
)
PYWAVELETS = (
    "Lee et al., PyWavelets: a Python package for wavelet analysis, J. Open Source Softw. 4 (2019)"
    " 1237"
)
EDM = (
    "Karras et al., Elucidating the design space of diffusion-based generative models, NeurIPS"
    " 2022, arXiv:2206.00364"
)
DIFFUSERS = "von Platen et al., Diffusers: state-of-the-art diffusion models, Hugging Face (2022)"
SSIM = (
    "Wang et al., Image quality assessment: from error visibility to structural similarity, IEEE"
    " Trans. Image Process. 13 (2004) 600-612"
)


@hookimpl
def tiltkit_samplers() -> list[Entry]:
    """Samplers with annealed noise levels, with and without importance weights."""
    return [
        Entry(
            name="moments",
            target="tiltkit.sampling.samplers.moments:Moments",
            summary="default: moment matching with finite differences, without weights",
            cite=(MOMENT_MATCHING, ALMC),
        ),
        Entry(
            name="walmc",
            target="tiltkit.sampling.samplers.walmc:Walmc",
            summary="weighted annealed Langevin: exact particle weights, also for counts",
            cite=(ALMC, TDS),
        ),
        Entry(
            name="twisted",
            target="tiltkit.sampling.samplers.twisted:Twisted",
            summary="weighted particles, likelihood at the denoised image; for separate modes",
            cite=(TDS, ALMC),
        ),
        Entry(
            name="almc",
            target="tiltkit.sampling.samplers.almc:Almc",
            summary="annealed Langevin as published: any differentiable potential, no weights",
            cite=(ALMC,),
        ),
    ]


@hookimpl
def tiltkit_priors() -> list[PriorEntry]:
    """Priors without training, and adapters for the user's own networks."""
    return [
        PriorEntry(
            name="network",
            target="tiltkit.priors.denoiser:file_prior",
            summary="a network that 'tiltkit train' made of your own images",
        ),
        PriorEntry(
            name="gaussian",
            target="tiltkit.priors.closed_form:gaussian_prior",
            summary="smooth Gaussian with the spectrum of natural images; exact",
        ),
        PriorEntry(
            name="tv",
            target="tiltkit.priors.denoiser:tv_prior",
            summary="total variation, piecewise constant images; its spread is a rough guess",
            cite=(CHAMBOLLE,),
        ),
        PriorEntry(
            name="wavelet",
            target="tiltkit.priors.wavelet:wavelet_prior",
            summary="sparse wavelets, thresholded in all shifts; its spread is a rough guess",
            cite=(SPINNING, PYWAVELETS),
        ),
        PriorEntry(
            name="mixture",
            target="tiltkit.priors.mixture:mixture_prior",
            summary="Gaussian mixture from a file, such as known images; exact",
        ),
        PriorEntry(
            name="patches",
            target="tiltkit.priors.patches:patches_prior",
            summary="Gaussian mixture over small patches, fitted to your images in minutes",
            cite=(EPLL,),
        ),
        PriorEntry(
            name="deepinv",
            target="tiltkit.priors.deepinv:deepinv_prior",
            summary="any denoiser of deepinv by class name, with weights from a file",
            requires=("deepinv",),
            cite=(DEEPINV,),
        ),
        PriorEntry(
            name="diffusers",
            target="tiltkit.priors.diffusers:diffusers_prior",
            summary="UNet2D model of the diffusers library from a local folder",
            requires=("diffusers",),
            cite=(DIFFUSERS,),
        ),
        PriorEntry(
            name="module",
            target="tiltkit.priors.module:module_prior",
            summary="your own torch network by import path, also raw networks of the EDM kind",
            cite=(EDM,),
        ),
    ]


@hookimpl
def tiltkit_operators() -> list[Entry]:
    """Adapter for the forward models of deepinv."""
    return [
        Entry(
            name="deepinv",
            target="tiltkit.operators.deepinv:DeepinvOperator",
            summary="any linear physics of deepinv",
            requires=("deepinv",),
            cite=(DEEPINV,),
        )
    ]


@hookimpl
def tiltkit_metrics() -> list[Entry]:
    """Metrics of error and of calibration."""

    def metric(name: str, summary: str, *cite: str) -> Entry:
        return Entry(name=name, target=f"tiltkit.report.metrics:{name}", summary=summary, cite=cite)

    return [
        metric("psnr", "peak signal-to-noise ratio of the mean in dB; more is better"),
        metric("ssim", "structural similarity of the mean; 1 is equality", SSIM),
        metric("nrmse", "relative error of the mean; less is better"),
        metric("chi2", "data residual per measurement over the noise; 1 is expected"),
        metric("coverage90", "share of pixels inside their 90 % interval; 0.9 is calibrated"),
        metric(
            "spread_ratio",
            "error over standard deviation; 1 is calibrated, more is too sure",
        ),
    ]


@hookimpl
def tiltkit_writers() -> list[WriterEntry]:
    """Writers of volumes, image stacks and one picture."""
    images = ("mean", "std", "q05", "q95", "sample", "phase", "map")
    return [
        WriterEntry(
            name="bids",
            target="tiltkit.io.bids:write_bids",
            summary="as nifti, with names of a BIDS derivative dataset; subject=01 and suffix=T1w",
            requires=("nibabel",),
            extra="nifti",
            suffix=".bids",
            folder=(
                "dataset_description.json",
                "README",
                *(f"sub-*_desc-{name}*_*.{end}" for name in images for end in ("json", "nii.gz")),
            ),
            merge=True,
        ),
        WriterEntry(
            name="nifti",
            target="tiltkit.io.nifti:write_nifti",
            summary="NIfTI: mean, standard deviation, 90 % interval, phase and further images;"
            " with samples=true samples",
            requires=("nibabel",),
            extra="nifti",
            suffix=".nii.gz",
            beside=(".std.nii.gz", ".q05.nii.gz", ".q95.nii.gz", ".json"),
            optional=(".samples.nii.gz", ".phase.nii.gz", ".map-*.nii.gz"),
        ),
        WriterEntry(
            name="ome-tiff",
            target="tiltkit.io.ome:write_ome_tiff",
            summary="OME-TIFF: mean, standard deviation and 90 % interval as channels; with"
            " samples=true samples as a second image",
            suffix=".ome.tif",
        ),
        WriterEntry(
            name="ome-zarr",
            target="tiltkit.io.ome:write_ome_zarr",
            summary="OME-Zarr 0.4 folder: the channels of ome-tiff; with samples=true samples",
            requires=("zarr",),
            extra="zarr",
            suffix=".ome.zarr",
            folder=(
                *(".zattrs", ".zgroup", ".zarray", "0/.zarray", "0/.zattrs", "0/*/*/*/0/0"),
                *("samples/.zattrs", "samples/.zgroup", "samples/0/.zarray"),
                *("samples/0/.zattrs", "samples/0/*/*/*/0/0"),
            ),
        ),
        WriterEntry(
            name="png",
            target="tiltkit.report.picture:write_png",
            summary="one picture: no prior, mean and standard deviation of the middle slice",
            suffix=".png",
        ),
        WriterEntry(
            name="tiff",
            target="tiltkit.io.tiff:write_tiff",
            summary="mean and standard deviation as two TIFF stacks, float32, with pixel sizes",
            suffix=".tif",
            beside=(".std.tif",),
        ),
    ]
