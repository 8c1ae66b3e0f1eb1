"""Check of a prior: figures of merit, laws that hold for every prior, and findings in words.

``material`` has the clean images, ``baselines`` the denoisers to compare with, ``laws`` identities
that hold for the score of every density, ``ancestral`` unconditional samples and ``findings`` the
findings. The page of a check is `tiltkit.report.prior_check`.
"""

from __future__ import annotations

from tiltkit.priors.check.material import Material, from_images, from_prior
from tiltkit.priors.check.measure import check_prior, levels_of
from tiltkit.priors.check.record import Example, Level, Report

__all__ = [
    "Example", "Level", "Material", "Report", "check_prior", "from_images", "from_prior",
    "levels_of",
]  # fmt: skip
