"""Whether a prior is what it claims to be: figures from the prior itself, and words for them.

``material`` has the clean images, ``baselines`` what must be beaten, ``laws`` what holds for every
true prior, ``ancestral`` unconditional samples, ``verdict`` the words and ``page`` the picture.
"""

from __future__ import annotations

from tiltkit.priors.check.material import Material, from_files, from_prior
from tiltkit.priors.check.measure import check_prior, levels_of
from tiltkit.priors.check.record import Example, Level, Report

__all__ = [
    "Example", "Level", "Material", "Report", "check_prior", "from_files", "from_prior",
    "levels_of",
]  # fmt: skip
