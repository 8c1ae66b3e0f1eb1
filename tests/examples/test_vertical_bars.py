"""The published experiment at a small size: what its figure shows is there."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).parents[2] / "examples" / "vertical_bars.py"


@pytest.fixture(scope="module")
def bars():
    spec = importlib.util.spec_from_file_location("vertical_bars", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["vertical_bars"] = module  # where dataclasses look up their annotations
    spec.loader.exec_module(module)
    yield module
    del sys.modules["vertical_bars"]


def test_exact_samples_are_at_no_distance_from_their_own_law(bars):
    x = bars.exact(0.3, 40_000, seed=0)
    assert bars.kl(x, 0.3) == pytest.approx(0, abs=0.01)
    assert bars.fisher(x, 0.3) < 0.5


def test_the_closed_form_density_is_the_tilted_prior(bars):
    """Against the product of the prior's density and the likelihood, on a line."""
    prior = bars.bars_prior()
    means, weights = prior.means.numpy(), prior.weights.numpy()
    squares = (bars.AXIS[:, None, None] - means[:, 0]) ** 2 + (
        bars.AXIS[:, None] - means[:, 1]
    ) ** 2
    tilt = np.exp(-((bars.AXIS - bars.HEIGHT) ** 2) / (2 * bars.NOISE**2))
    expected = np.exp(-squares / (2 * bars.WIDTH**2)) @ weights * tilt
    assert np.allclose(bars.density(0.0), expected / expected.sum(), atol=1e-9)


def test_the_experiment_shows_what_the_paper_claims_and_draws_it(bars, tmp_path, capsys):
    out = tmp_path / "bars.png"
    cases = bars.main(["-n", "300", "--kappa", "2", "--out", str(out)])
    exact, good, fast, fastest, *_, one_bar = cases
    assert exact.kl < good.kl < fast.kl < fastest.kl
    # Fisher divergence alone does not see that bars are missing.
    assert one_bar.fisher < good.fisher
    assert one_bar.kl > 1.5 * good.kl
    assert out.stat().st_size > 20_000
    assert "KL to mu_tau" in capsys.readouterr().out
