"""Noise of a scan: covariance of the coils from several independent places, and whitening."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from tiltkit.problem import Note

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "AIR", "NOISE_SCAN", "OUTER", "REDUNDANT", "REPEATED", "Noise", "Source", "Whitening",
    "combine_sources", "describe_noise", "noise_of_air", "noise_of_differences",
    "noise_of_outer_kspace", "noise_of_residual", "noise_of_scan", "whitening",
]  # fmt: skip

AIR, OUTER, NOISE_SCAN = "rows of air", "outer k-space", "noise scan"
REDUNDANT, REPEATED = "redundant samples", "differences of averages"

# The median of an exponential distribution, which noise power follows, over its mean.
_MEDIAN = math.log(2)
# Variance of the median of n such values, relative to its square, times n.
_MEDIAN_VARIANCE = 1 / _MEDIAN**2
# Usual correlations between coils, of noise and of signal.
_NOISE_CORRELATION, _SIGNAL_CORRELATION = 0.2, 0.7
# A vector of coils is left out when the power of a coil exceeds its mean by this factor: 1e-6 of
# all noise does.
_CLIP = 14.0
# Largest share of signal in the power of a row of air, in the outer half of k-space.
_SIGNAL_SHARE = 0.05
# Rows between these multiples of the usual noise power of air are in the passband of the receiver.
_PASSBAND = (0.7, 1.4)
# Least share of all rows that are needed as air.
_LEAST_AIR = 0.03
# Rows whose noise power is averaged to see a receiver filter.
_SMOOTH = 5
# A column whose noise power exceeds the median of all by this factor holds a spike.
_SPIKE = 3.0
# Least share of noise in the outermost samples that the fitted decay can show.
_LEAST_SHARE = 0.15
# Share of noise from which on its level is sure enough to compare it with others.
_SURE_SHARE = 0.7
# Least share of the noise that a fit of an image leaves, for its level to be sure.
_LEAST_LEFT = 0.1
# Samples nearer to an axis of k-space, in half widths, hold signal of edges along the other axis.
_AXES = 0.15
# Samples nearer to the centre, in half widths, are no outer k-space.
_CENTRE = 0.4
# Where samples reach less far along an axis, in half widths, only its centre is measured.
_NARROW = 0.3
# Fewest samples of outer k-space.
_LEAST_SAMPLES = 200
# A receiver filter is stated where it lowers the noise power at an edge below this share.
_FILTERED = 0.5
# Rows of air hold signal where outer k-space, nearly all of it noise, has less than this share of
# their level, and no filter explains it: the lowest power of air is above the last share. With true
# air the second share is .88 or more, and with a filter the lowest power is below .4.
_NEARLY_ALL, _LESS_OUTSIDE, _NO_FILTER = 0.9, 0.87, 0.4
# Levels of two sources agree within this factor.
_AGREE = 1.3
# Exponents of the decay of signal power with the distance from the centre of k-space.
_DECAYS = (2.0, 3.0, 4.0, 6.0)


@dataclass(frozen=True, slots=True)
class Source:
    """Noise from one place of a scan.

    Attributes:
        name: `AIR`, `OUTER`, `NOISE_SCAN`, `REDUNDANT` or `REPEATED`.
        covariance: ``E[n n^H]`` (coil, coil), of both real components together.
        edge: Lowest over usual noise power along the readout in the image; below 1 with a receiver
            filter. 1 where it is not known.
        share: Share of noise in the power that it was found in.
        narrow: True where only the centre of one axis of k-space is measured, so that the share
            cannot be relied on.
    """

    name: str
    covariance: Tensor
    edge: float = 1.0
    share: float = 1.0
    narrow: bool = False

    @property
    def level(self) -> float:
        """Standard deviation per real component, root mean square over the coils."""
        return math.sqrt(float(self.covariance.diagonal().real.mean()) / 2)


@dataclass(frozen=True, slots=True)
class Noise:
    """Noise of a slice.

    Attributes:
        covariance: ``E[n n^H]`` (coil, coil), Hermitian and positive.
        source: Where it was found.
        levels: Standard deviation per real component in the file's units, by source, of those where
            it is sure.
        edge: Lowest over usual noise power along the readout (`Source.edge`).
        share: Share of noise in the power of the source (`Source.share`).
        narrow: True where that share cannot be relied on (`Source.narrow`).
    """

    covariance: Tensor
    source: str
    levels: Mapping[str, float]
    edge: float = 1.0
    share: float = 1.0
    narrow: bool = False

    @property
    def agree(self) -> bool:
        """True where all sources have nearly the same level."""
        return max(self.levels.values()) <= _AGREE * min(self.levels.values())

    @property
    def scan_differs(self) -> bool:
        """True where all sources in the scan itself agree, and the noise scan differs."""
        own = [level for name, level in self.levels.items() if name != NOISE_SCAN]
        return not self.agree and len(own) > 1 and max(own) <= _AGREE * min(own)

    @property
    def sure(self) -> bool:
        """True where the level comes from samples that hold mostly noise."""
        return self.share >= _SURE_SHARE and not self.narrow

    @property
    def filtered(self) -> bool:
        """True where a receiver filter lowers the noise at the edges of the readout."""
        return self.edge < _FILTERED


@dataclass(frozen=True, slots=True)
class Whitening:
    """Mixes coils so that their noise is white, with the mean noise power kept.

    Attributes:
        matrix: (coil, coil), complex; the identity where the noise is white already.
        noise_level: Standard deviation of the noise per real component, before and after, in the
            file's units.
    """

    matrix: Tensor
    noise_level: float

    def apply(self, data: Tensor) -> Tensor:
        """Mix the first axis of ``data`` (coil, ...)."""
        return torch.einsum("cd,d...->c...", self.matrix, data)


def noise_of_air(hybrid: Tensor, distance: Tensor) -> Source | None:
    """Noise from image rows without an object, away from the edges of a receiver filter.

    After the inverse FFT along the readout, rows of air contain noise alone, at every phase
    encoding step. A row counts as air where the signal that its central columns predict for the
    outer ones, by the decay in the brightest rows, is a small share of the power there. Noise is
    taken from the outer half of the columns, without those that hold a spike, and from rows with
    the usual power of air: a receiver filter lowers it towards the edges of the readout.

    Args:
        hybrid: Measured columns (coil, image row, column), complex.
        distance: Distance (column,) of each from the centre of k-space.

    Returns:
        None where too few rows are air, or where there is no noise at all.
    """
    n_coils, n_rows, _ = hybrid.shape
    if not bool(hybrid.any()):
        return None
    outer = distance >= distance.median()
    inner = distance <= distance.sort().values[min(len(distance) - 1, 4)]
    power = hybrid.abs().square().double()
    # Equal weights: otherwise coils with a high gain would dominate.
    quiet = power[..., outer].mean(2).quantile(0.1, dim=1)
    energy = (power / _positive(quiet)[:, None, None]).mean(0)
    edge = energy[:, outer]
    # Medians: a spike lifts all rows of its column.
    outside, inside = edge[:, ~_spiked(edge)].mean(1), energy[:, inner].median(1).values
    usual = _smooth(outside)
    air = _predicted_signal(inside, outside) <= _SIGNAL_SHARE * usual
    if int(air.sum()) < max(4, _LEAST_AIR * n_rows):
        return None
    level = float(usual[air].quantile(0.7))
    rows = air & (usual >= _PASSBAND[0] * level) & (usual <= _PASSBAND[1] * level)
    if not bool(rows.any()):
        return None
    samples = hybrid[:, rows][..., outer][..., ~_spiked(edge[rows])].flatten(1)
    if samples.shape[1] < 2 * n_coils:
        return None
    lowest = float(usual[air].min()) / level
    return Source(AIR, _covariance(samples), edge=min(1.0, lowest))


def noise_of_outer_kspace(samples: Tensor, position: Tensor) -> Source | None:
    """Noise from samples far from the centre of k-space, where little signal is left.

    The power of signal and noise, as medians over rings, is fitted by ``N + S radius^-p``: N is the
    noise, averaged over a receiver filter. Samples near the axes of k-space are left out: edges of
    the field of view have their signal there.

    Args:
        samples: Measured samples (coil, sample), complex.
        position: Distance (2, sample) of each from the centre along both axes, in half widths of
            k-space.

    Returns:
        A source with a small `Source.share` where signal dominates everywhere; its level is too
        high. None where there are too few samples.
    """
    apart = position.abs()
    limit = (apart.max(dim=1, keepdim=True).values / 2).clamp_max(_AXES)
    kept = (apart > limit).all(dim=0) & (apart.norm(dim=0) > _CENTRE)
    if int(kept.sum()) < _LEAST_SAMPLES or not bool(samples[:, kept].any()):
        return None
    samples, radius = samples[:, kept], apart[:, kept].norm(dim=0)
    order = radius.argsort()
    rings = [part for part in order.tensor_split(16) if len(part)]
    power = samples.abs().square().double()
    profile = torch.stack([power[:, ring].median(dim=1).values / _MEDIAN for ring in rings], 1)
    last = _positive(profile[:, -2:].mean(1))
    mean = (profile / last[:, None]).mean(0)
    centres = torch.stack([radius[ring].double().mean() for ring in rings])
    noise, decay = _fitted_decay(mean, centres / centres[-1])
    share = max(noise, _LEAST_SHARE)
    covariance = _covariance(samples[:, torch.cat(rings[-6:])])
    there = _positive(covariance.diagonal().real.double())
    excess = _shrunk(there / last, _MEDIAN_VARIANCE / (2 * len(rings[-1])))
    gain = (share / excess).sqrt().to(covariance.dtype)
    signal = float((decay / (noise + decay))[-6:].mean())
    covariance = _less_correlated(covariance, signal, sum(map(len, rings[-6:])))
    covariance = gain[:, None] * covariance * gain[None]
    narrow = float(apart.max(dim=1).values.min()) < _NARROW
    return Source(OUTER, covariance, share=min(share, 1.0), narrow=narrow)


def noise_of_scan(samples: Tensor) -> Source:
    """Noise from a noise scan (coil, sample): measured without excitation, complex."""
    return Source(NOISE_SCAN, _covariance(samples))


def noise_of_differences(samples: Tensor) -> Source:
    """Noise from differences of averages (coil, sample), scaled to the noise of their mean."""
    return Source(REPEATED, _covariance(samples))


def noise_of_residual(residual: Tensor, reference: Tensor) -> Source | None:
    """Noise from samples that are redundant: what a fit of an image to them leaves.

    Args:
        residual: Samples less those of the fitted image (coil, sample), complex.
        reference: The same (1, sample) for white noise of unit variance: the share of the noise
            that a fit leaves.

    Returns:
        None where the fit leaves hardly anything, as with Cartesian samples.
    """
    left = float(_covariance(reference).real)
    return Source(REDUNDANT, _covariance(residual) / left) if left > _LEAST_LEFT else None


def combine_sources(sources: list[Source]) -> Noise:
    """The most direct noise of several, checked against the others.

    A noise scan comes first, then differences of averages where nothing moved between them, then
    air or redundant samples, then outer k-space. Air that has more power than outer k-space is not
    air, and is left out. Where a noise scan and air disagree, the level is that of air, which was
    measured with the scan itself, and the correlation of coils that of the noise scan.

    Raises:
        ValueError: There is no source, or none has any noise.
    """
    found = {one.name: one for one in sources if 0 < one.level < math.inf}
    air, outer, scan = (found.get(name) for name in (AIR, OUTER, NOISE_SCAN))
    if air and outer:
        if air.level > _AGREE * outer.level / math.sqrt(outer.share) or (
            outer.share >= _NEARLY_ALL
            and outer.level < _LESS_OUTSIDE * air.level
            and air.edge >= _NO_FILTER
        ):
            air = found.pop(AIR) and None
        elif outer.level > _AGREE * air.level and air.edge >= _FILTERED:  # signal, not noise
            outer = found.pop(OUTER) and None
        elif outer.level > _AGREE * air.level and outer.share >= _SURE_SHARE:
            air = None  # all of its rows are at the edge of the filter
    redundant, repeated = found.get(REDUNDANT), found.get(REPEATED)
    moved = repeated and air and repeated.level > _AGREE * air.level
    if repeated and not moved and not (air and air.edge < _NO_FILTER):
        if air and air.level > _AGREE * repeated.level:
            del found[AIR]
        air, redundant = None, repeated
    if redundant and outer and outer.level > _AGREE * redundant.level:  # signal, not noise
        outer = found.pop(OUTER) and None
    air = air or redundant
    chosen = scan or air or outer
    if chosen is None:
        raise ValueError("No place with noise was found.")
    covariance = chosen.covariance
    if scan and air and not 1 / _AGREE <= scan.level / air.level <= _AGREE:
        covariance = covariance * (air.level / scan.level) ** 2
    sure = (one for one in found.values() if one is chosen or one.share >= _SURE_SHARE)
    levels = {one.name: one.level for one in sure}
    edge = found[AIR].edge if AIR in found else 1.0
    return Noise(covariance, chosen.name, levels, edge, chosen.share, chosen.narrow)


def describe_noise(noise: Noise) -> tuple[Note, ...]:
    """Notes on the noise of a slice: its source, a receiver filter, and what makes it doubtful."""
    notes = [Note("noise_estimated", f"The noise level is estimated from {noise.source}.")]
    if noise.filtered:
        text = (
            "A receiver filter lowers the noise at the edges of the readout, to"
            f" {math.sqrt(noise.edge):.0%} at the lowest; those rows are not used for the estimate."
        )
        notes.append(Note("noise_filtered", text))
    if noise.scan_differs:
        text = (
            f"The noise scan has another scale: its level is {noise.levels[NOISE_SCAN]:.3g}. Only"
            " the correlation of its coils is used."
        )
        notes.append(Note("noise_scan_rescaled", text))
    elif not noise.agree:
        levels = ", ".join(f"{level:.3g} in {name}" for name, level in noise.levels.items())
        cause = (
            "The object may reach beyond the field of view, or the trajectory be wrong (gradient"
            " delays)."
            if REDUNDANT in noise.levels
            else "Interference, motion between averages, or a filter in the raw data is likely."
        )
        text = (
            f"Estimates of the noise level disagree: {levels}. {cause} Give the level with"
            " -s task.noise_level=VALUE."
        )
        notes.append(Note("noise_disagrees", text, assumed=True))
    if not noise.sure:
        text = (
            "The noise level is uncertain: signal fills the readout and reaches the edge of the"
            " measured part of k-space. Give the level with -s task.noise_level=VALUE."
        )
        notes.append(Note("noise_uncertain", text, assumed=True))
    return tuple(notes)


def whitening(covariance: Tensor) -> Whitening:
    """The whitening of coils with a noise covariance (coil, coil).

    Raises:
        ValueError: The covariance is not positive: a coil, or a mixture of coils, has no noise.
    """
    mean = float(covariance.diagonal().real.mean())
    factor, failed = torch.linalg.cholesky_ex(covariance / mean)
    if failed:
        raise ValueError("The noise covariance is not positive.")
    identity = torch.eye(len(factor), dtype=factor.dtype, device=factor.device)
    matrix = torch.linalg.solve_triangular(factor, identity, upper=False)
    return Whitening(matrix, math.sqrt(mean / 2))


def _covariance(samples: Tensor) -> Tensor:
    """Covariance (coil, coil) of noise (coil, sample), without samples that are outliers."""
    power = samples.abs().square()
    usual = power.median(dim=1, keepdim=True).values / _MEDIAN
    noise = samples[:, (power <= _CLIP * usual).all(dim=0)]
    if not noise.shape[1]:
        noise = samples
    covariance = noise @ noise.mH / noise.shape[1]
    # Few samples give a covariance with too large a spread of eigenvalues.
    shrink = min(1.0, len(noise) / noise.shape[1])
    diagonal = torch.diag(covariance.diagonal())
    return torch.lerp(covariance, diagonal, torch.tensor(shrink, dtype=covariance.dtype))


def _spiked(energy: Tensor) -> Tensor:
    """Columns (column,) with a spike, of energies (row, column): it lifts all image rows alike."""
    quiet = energy.quantile(0.25, dim=0)
    return quiet > _SPIKE * quiet.median()


def _predicted_signal(inside: Tensor, outside: Tensor) -> Tensor:
    """Signal power (row,) to expect in outer columns, from that in the central columns."""
    bright = inside >= inside.quantile(0.8)
    high, low = float(inside[bright].mean()), float(outside[bright].mean())
    floor = float(outside.quantile(0.1))
    if high <= 1.5 * low:  # no signal at all
        return torch.zeros_like(inside)
    decay = max(low - floor, 0.0) / (high - low)
    return decay * (_smooth(inside) - _smooth(outside)).clamp_min(0)


def _fitted_decay(power: Tensor, radius: Tensor) -> tuple[float, Tensor]:
    """Noise ``N`` and signal ``S radius^-p`` of a fit of their sum to powers of about 1.

    Errors are relative; N and S are not negative. N exceeds 1 where the last powers are too small
    by chance.

    Args:
        power: Power (ring,).
        radius: Radius (ring,); 1 in the last one.
    """
    fits = []
    for exponent in _DECAYS:
        noise, signal = 1 / power, radius**-exponent / power
        basis = torch.stack([noise, signal], 1)
        both = torch.linalg.lstsq(basis, torch.ones_like(power)[:, None]).solution[:, 0]
        only_noise = torch.stack([noise.sum() / noise.square().sum(), torch.zeros_like(both[0])])
        only_signal = torch.stack([torch.zeros_like(both[0]), signal.sum() / signal.square().sum()])
        fits += [
            (float((basis @ found - 1).square().sum()), *found.tolist(), exponent)
            for found in (both, only_noise, only_signal)
            if bool((found >= 0).all())
        ]
    _, level, strength, exponent = min(fits)
    return level, strength * radius**-exponent


def _shrunk(values: Tensor, variance: float) -> Tensor:
    """Positive values (coil,) moved towards their geometric mean as far as chance explains them.

    Args:
        values: One value per coil.
        variance: Variance of the error of their logarithms.
    """
    logs = values.log()
    spread = float(logs.var()) if len(logs) > 1 else math.inf
    return torch.lerp(logs.mean(), logs, max(0.0, 1 - variance / max(spread, 1e-30))).exp()


def _less_correlated(covariance: Tensor, signal: float, count: int) -> Tensor:
    """Covariance (coil, coil) with correlations lowered as far as signal or chance explain them.

    Args:
        covariance: Of noise and some signal, which is correlated between coils.
        signal: Share of signal in the power.
        count: Number of samples.
    """
    error = (_SIGNAL_CORRELATION * signal) ** 2 + 1 / count
    weight = _NOISE_CORRELATION**2 / (_NOISE_CORRELATION**2 + error)
    diagonal = torch.diag(covariance.diagonal())
    return torch.lerp(diagonal, covariance, torch.tensor(weight, dtype=covariance.dtype))


def _smooth(profile: Tensor) -> Tensor:
    """Running mean over rows; the first and the last row are neighbours in the image."""
    shifts = range(-(_SMOOTH // 2), _SMOOTH // 2 + 1)
    return torch.stack([profile.roll(shift) for shift in shifts]).mean(0)


def _positive(values: Tensor) -> Tensor:
    return values.clamp_min(max(float(values.max()) * 1e-9, 1e-300))
