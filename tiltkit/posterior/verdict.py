"""The verdict on a posterior, in two halves: spread and mean (local), and shares of explanations.

The local half is the Stein check of every band of spatial frequency. The global half is about
shares of clearly different images among the samples, to which the Stein check is blind. A half is
``ok`` only where a test had the power to fail.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

__all__ = [
    "FAILED", "NOT_TESTED", "OK", "BandCheck", "Half", "Verdict", "find_verdict", "stored_verdict",
    "verdict_text", "worst_verdict",
]  # fmt: skip

Status = Literal["ok", "failed", "not tested"]
OK, FAILED, NOT_TESTED = "ok", "failed", "not tested"
SHARES = "shares between separate explanations"

# Smallest and largest variance of samples over that of the target that raise no warning. At 0.85 a
# 90 % interval of a Gaussian covers 87 %.
SPREAD = (0.85, 1.18)
# Variance ratios that a check must exclude to be ``ok``: averaged over coefficients, and of the
# total variance, which scatters more.
SPREAD_EXCLUDED, TOTAL_EXCLUDED = (0.8, 1.25), (0.75, 1.33)
# Largest offset of the mean without a warning, and the one that a check must exclude to be ``ok``,
# in posterior standard deviations. They raise the squared error of an exact mean by 0.4 and 1 dB.
OFFSET, OFFSET_EXCLUDED = 0.3, 0.5
# Standard errors beyond which a deviation is not chance: with two tests in each of five bands, one
# of 100 exact runs is beyond in some band.
CHANCE = 3.2
# Standard errors of the confidence limits of `SPREAD_EXCLUDED`, `OFFSET_EXCLUDED`: 5 % one-sided.
CONFIDENCE = 1.645


@dataclass(frozen=True, slots=True)
class BandCheck:
    """Stein check of one band of spatial frequency.

    Attributes:
        low: Lowest spatial frequency of the band in cycles per pixel; 0 for the coarsest detail.
        high: Highest spatial frequency; 0 where images have no spatial axes.
        coordinates: Number of real coefficients in the band.
        spread: Variance of the samples over that of the target, averaged over coefficients; 1 is
            right.
        spread_error: Standard error of ``spread``.
        offset: Squared offset of the mean from that of the target, in squared standard deviations
            of the posterior, averaged over coefficients; 0 is right. The estimate is unbiased, so
            that it can be negative.
        offset_error: Standard error of ``offset``.
        fisher: Lower bound of the Fisher divergence of the samples from the target, per coefficient
            in units of the samples' standard deviation.
        variance: Variance of the samples, averaged over coefficients, in the prior's squared units.
        finest: True for the band of the highest frequencies.
        total: The same ratio with coefficients weighted by their variance: that of the total
            variance of the band, most of which few coefficients may have where data determine the
            others. None where it is not known.
        total_error: Standard error of ``total``.
    """

    low: float
    high: float
    coordinates: int
    spread: float
    spread_error: float
    offset: float
    offset_error: float
    fisher: float = 0.0
    variance: float = 0.0
    finest: bool = False
    total: float | None = None
    total_error: float | None = None

    def __post_init__(self) -> None:
        numbers = (
            self.low, self.high, self.spread, self.spread_error, self.offset, self.offset_error,
            self.fisher, self.variance, *(self.total or 0, self.total_error or 0),
        )  # fmt: skip
        if not all(map(math.isfinite, numbers)):
            raise ValueError("a figure of the band is not finite")

    @property
    def name(self) -> str:
        """The band in words, by the period of its detail in pixels."""
        if self.low <= 0:
            return "all detail" if self.finest else f"detail coarser than {_period(self.high)} px"
        if self.finest:
            return f"detail finer than {_period(self.low)} px"
        return f"detail of {_period(self.high)} to {_period(self.low)} px"

    @property
    def ratios(self) -> tuple[tuple[float, float], ...]:
        """Variance ratios with their standard errors: per coefficient, and of the total variance.

        The second is left out where it is not known.
        """
        pair = (self.spread, self.spread_error)
        if self.total is None or self.total_error is None:
            return (pair,)
        return pair, (self.total, self.total_error)

    @property
    def worst_ratio(self) -> tuple[float, float]:
        """The ratio of `ratios` that failed, or else deviates the most, with its error."""
        return max(self.ratios, key=lambda one: (_failed(*one), abs(one[0] - 1)))

    @property
    def spread_status(self) -> Status:
        """``failed`` where one of `ratios` is beyond `SPREAD`.

        ``ok`` where they exclude `SPREAD_EXCLUDED` and `TOTAL_EXCLUDED`.
        """
        limits = (SPREAD_EXCLUDED, TOTAL_EXCLUDED)
        found = {_status(*one, limit) for one, limit in zip(self.ratios, limits, strict=False)}
        return "failed" if FAILED in found else "ok" if found == {OK} else "not tested"

    @property
    def offset_status(self) -> Status:
        """``failed`` beyond `OFFSET`, ``ok`` where `OFFSET_EXCLUDED` is excluded."""
        if self.offset > max(OFFSET**2, CHANCE * self.offset_error):
            return "failed"
        excluded = self.offset + CONFIDENCE * self.offset_error < OFFSET_EXCLUDED**2
        return "ok" if excluded else "not tested"

    @property
    def offset_sd(self) -> float:
        """Offset of the mean in posterior standard deviations (root mean square)."""
        return math.sqrt(max(self.offset, 0.0))


def _failed(ratio: float, error: float) -> bool:
    return not SPREAD[0] <= ratio <= SPREAD[1] and abs(ratio - 1) > CHANCE * error


def _status(ratio: float, error: float, excluded: tuple[float, float]) -> Status:
    """Status of a variance ratio with its standard error."""
    if _failed(ratio, error):
        return "failed"
    low, high = ratio - CONFIDENCE * error, ratio + CONFIDENCE * error
    return "ok" if excluded[0] < low and high < excluded[1] else "not tested"


def _period(frequency: float) -> str:
    return f"{1 / frequency:.2g}"


@dataclass(frozen=True, slots=True)
class Half:
    """One half of the verdict.

    Attributes:
        status: ``"ok"``, ``"failed"`` or ``"not tested"``.
        text: What was tested and found, or why it was not tested; part of a sentence.
    """

    status: Status
    text: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """Verdict on a posterior.

    Attributes:
        local: Spread and mean of the samples, by the Stein check.
        shares: Shares of separate explanations among the samples.
    """

    local: Half
    shares: Half

    @property
    def ok(self) -> bool:
        """True where both halves were tested and are right."""
        return self.local.status == self.shares.status == OK

    def sentence(self, fit: str = "") -> str:
        """What was tested and found right, and what was not tested; failures are warnings.

        Args:
            fit: Finding on the fit to the data, without a capital; empty to leave it out.
        """
        text = fit
        if self.local.status == OK:
            text += f"{' and their' if fit else 'the'} {self.local.text} (Stein check)"
        elif self.local.status == NOT_TESTED:
            text += f"{'; ' if fit else ''}spread and mean: not tested ({self.local.text})"
        if self.shares.status != FAILED:
            tested = f" ({self.shares.text})" if self.shares.status == OK else ""
            text += f"{'; ' if text else ''}{SHARES}: {self.shares.status}{tested}"
        return f"{text[:1].upper()}{text[1:]}." if text else ""

    def figures(self) -> dict[str, str]:
        """The texts that a result file stores; `stored_verdict` reads them."""
        return {
            "local": self.local.status, "local_found": self.local.text,
            "shares": self.shares.status, "shares_found": self.shares.text,
        }  # fmt: skip


def stored_verdict(report: Mapping[str, Any]) -> Verdict:
    """The verdict among the diagnostics of a slice; not tested where there is none."""
    return Verdict(*(_stored_half(report, name) for name in ("local", "shares")))


def _stored_half(report: Mapping[str, Any], name: str) -> Half:
    status = report.get(name)
    if status not in (OK, FAILED, NOT_TESTED):
        return Half("not tested", "the result has no such test")
    return Half(status, str(report.get(f"{name}_found", "")))


def find_verdict(report: Mapping[str, Any]) -> Verdict:
    """The verdict that the figures of one slice allow.

    Args:
        report: Diagnostics by name. ``bands`` holds the `BandCheck` of every band, and
            ``not_checked`` the reason where there are none. ``shares_test`` is the finding of a
            test of the shares, ``shares_failed`` is true where it failed, and ``shares_not_tested``
            is the reason where it had no power.
    """
    return Verdict(_local(report), _shares(report))


def _local(report: Mapping[str, Any]) -> Half:
    bands: Sequence[BandCheck] = report.get("bands", ())
    if not bands:
        return Half("not tested", str(report.get("not_checked", "no Stein check")))
    failed = [
        f"{text} in {band.name}" for band in bands for text, status in _findings(band)
        if status == FAILED
    ]  # fmt: skip
    if failed:
        return Half("failed", "; ".join(failed))
    unclear = [band.name for band in bands if not band.spread_status == band.offset_status == OK]
    if unclear:
        return Half("not tested", f"too few samples to tell in {', '.join(unclear)}")
    where = "in all bands" if len(bands) > 1 else "in one band of all detail"
    percent = 100 * max(abs(band.worst_ratio[0] - 1) for band in bands)
    return Half("ok", f"spread is right within {max(math.ceil(percent - 1e-6), 1)} % {where}")


def _findings(band: BandCheck) -> Iterable[tuple[str, Status]]:
    yield f"variance {band.worst_ratio[0]:.2f} times the right one", band.spread_status
    yield f"mean off by {band.offset_sd:.2g} standard deviations", band.offset_status


def _shares(report: Mapping[str, Any]) -> Half:
    if "rhat" in report and report["rhat"] > report["rhat_limit"]:
        return Half("failed", "independent runs disagree")
    test = str(report.get("shares_test", ""))
    if not test:
        return Half("not tested", str(report.get("shares_not_tested", "no test was made")))
    return Half("failed" if report.get("shares_failed") else "ok", test)


def worst_verdict(verdicts: Sequence[Verdict]) -> Verdict:
    """The verdict on several slices or tiles: each half is that of its worst one."""
    return Verdict(
        _worst([one.local for one in verdicts]), _worst([one.shares for one in verdicts])
    )


def _worst(halves: Sequence[Half]) -> Half:
    if not halves:
        return Half("not tested", "no finished slice")
    for status in (FAILED, NOT_TESTED, OK):
        found = [half for half in halves if half.status == status]
        if found:
            break
    return found[0]


def verdict_text(verdict: Verdict, warnings: Sequence[object]) -> str:
    """All warnings in one line, else ``ok``, or the half of the verdict that is open.

    Args:
        verdict: The verdict.
        warnings: The warnings of the slice.
    """
    if warnings:
        return " ".join(map(str, warnings))
    if verdict.ok:
        return OK
    local, shares = verdict.local.status, verdict.shares.status
    return f"spread and mean: {local}; {SHARES}: {shares}"
