"""Exact posteriors of random walks with independent steps, measured linearly, by Gibbs sampling.

Steps ``u`` are scale mixtures of Gaussians, ``u_k ~ N(0, v_k)`` or zero, with measurements
``y = H u + noise``. One sweep over many parallel chains:

* all steps at once, given their variances (a Gaussian)
* all variances, given the steps (inverse Gaussian for Laplace, inverse gamma for Student-t)
* for laws with an atom: each step, zero or not, its variance integrated out
* exchanges of two steps, accepted by the likelihood alone, since the prior does not change: a jump
  moves to another place, which no other update does
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import special, stats
from walks import Law

__all__ = ["Chains", "gibbs"]

Array = NDArray[np.float64]


@dataclass
class Chains:
    """State of all chains; arrays are (chain, step).

    Attributes:
        u: Steps.
        v: Variances of the steps.
        live: Steps that are not zero.
        gradient: ``H^T (y - H u) / noise^2``.
    """

    u: Array
    v: Array
    live: NDArray[np.bool_]
    gradient: Array


def gibbs(
    law: Law,
    matrix: Array,
    y: Array,
    noise: float,
    *,
    chains: int = 64,
    sweeps: int = 400,
    burn: int = 200,
    thin: int = 4,
    seed: int = 0,
) -> tuple[Array, float]:
    """Posterior samples of signals ``x`` given ``y = matrix x + noise``.

    Args:
        law: Law of the steps.
        matrix: (data, length).
        y: Measurement (data,).
        noise: Standard deviation of the noise.
        chains: Independent chains; each starts from a draw of the prior.
        sweeps: Sweeps after the first ones.
        burn: First sweeps, left out.
        thin: Every so many sweeps are kept.
        seed: The same seed gives the same samples.

    Returns:
        Samples (kept sweep, chain, length), and the largest split R-hat of all values.
    """
    rng = np.random.default_rng(seed)
    length = matrix.shape[1]
    h = matrix @ np.tril(np.ones((length, length))) / noise
    gram, back = h.T @ h, h.T @ (y / noise)
    u = law.draw((chains, length), rng)
    state = Chains(u, _variances(law, u, u != 0, rng), u != 0, back - u @ gram)
    kept = []
    for sweep in range(burn + sweeps):
        _draw_steps(state, gram, back, rng)
        if law.atom:
            _draw_zeros(state, law, gram, rng)
        state.v = _variances(law, state.u, state.live, rng)
        for lag in (1, 2, int(rng.integers(3, max(4, length // 4)))):
            _exchange(state, gram, lag, rng)
        if sweep >= burn and sweep % thin == 0:
            kept.append(state.u.cumsum(1))
    samples = np.stack(kept)
    return samples, _split_rhat(samples)


def _draw_steps(state: Chains, gram: Array, back: Array, rng: np.random.Generator) -> None:
    """All steps given variances; with ``u = d e``, ``e`` has precision ``1 + d H^T H d``."""
    d = np.sqrt(np.where(state.live, state.v, 0.0))
    precision = d[:, :, None] * gram * d[:, None, :]
    precision[:, range(len(gram)), range(len(gram))] += 1
    root = torch.linalg.cholesky(torch.from_numpy(precision))
    right = torch.from_numpy(d * back)[..., None]
    half = torch.linalg.solve_triangular(root, right, upper=False)
    half += torch.from_numpy(rng.normal(size=(*d.shape, 1)))
    e = torch.linalg.solve_triangular(root.mT, half, upper=True)[..., 0].numpy()
    state.u = d * e
    state.gradient = back - state.u @ gram


def _variances(
    law: Law, u: Array, live: NDArray[np.bool_], rng: np.random.Generator
) -> Array:  # fmt: skip
    """Variances of steps given the steps; from their prior where a step is zero."""
    kind = law.density.dist.name
    if kind == "norm":
        return np.ones_like(u)
    if kind == "laplace":
        inverse = rng.wald(1 / np.abs(u).clip(1e-8), 1.0)
        return np.where(live, 1 / inverse.clip(1e-12), 2 * rng.exponential(size=u.shape))
    nu = law.density.args[0]
    return (nu + u**2) / 2 / rng.gamma((nu + 1) / 2, size=u.shape)


def _draw_zeros(state: Chains, law: Law, gram: Array, rng: np.random.Generator) -> None:
    """Each step given all others, for a density ``exp(-|u|) / 2`` and an atom at zero."""
    log_odds = np.log((1 - law.atom) / law.atom / 2)
    chains, length = state.u.shape
    for k in rng.permutation(length):
        g = gram[k, k]
        old = state.u[:, k].copy()
        c = state.gradient[:, k] + g * old
        # Evidence of a positive and a negative step: integrals of exp(-g u^2 / 2 + c u - |u|).
        t = np.stack([c - 1, -c - 1]) / np.sqrt(g)
        log_sides = 0.5 * np.log(2 * np.pi / g) + t**2 / 2 + special.log_ndtr(t)
        log_live = log_odds + np.logaddexp(*log_sides)
        live = rng.uniform(size=chains) < special.expit(log_live)
        positive = rng.uniform(size=chains) < special.expit(log_sides[0] - log_sides[1])
        t = np.where(positive, t[0], t[1])
        # A Gaussian of mean t and variance 1, above zero: its quantile from the upper tail.
        tail = special.log_ndtr(t) + np.log(rng.uniform(size=chains))
        size = ((t - special.ndtri_exp(tail)) / np.sqrt(g)).clip(0)
        new = np.where(live, np.where(positive, size, -size), 0.0)
        state.u[:, k], state.live[:, k] = new, live
        state.gradient -= (new - old)[:, None] * gram[k]


def _exchange(state: Chains, gram: Array, lag: int, rng: np.random.Generator) -> None:
    """Exchange steps that are ``lag`` apart, one pair after the other."""
    chains, length = state.u.shape
    chance = np.log(rng.uniform(size=(length, chains)))
    for k in rng.permutation(length - lag):
        j = k + lag
        change = state.u[:, j] - state.u[:, k]
        curvature = gram[k, k] - 2 * gram[k, j] + gram[j, j]
        gain = change * (state.gradient[:, k] - state.gradient[:, j]) - 0.5 * change**2 * curvature
        accepted = chance[k] < gain
        change = np.where(accepted, change, 0.0)
        state.u[:, k] += change
        state.u[:, j] -= change
        state.gradient -= change[:, None] * (gram[k] - gram[j])
        for part in (state.v, state.live):
            part[accepted, k], part[accepted, j] = part[accepted, j], part[accepted, k]


def _split_rhat(samples: Array) -> float:
    """Largest R-hat over values of halves of chains, of ranks turned into normal scores."""
    half = len(samples) // 2
    parts = np.concatenate([samples[:half], samples[half : 2 * half]], 1)
    flat = parts.reshape(-1, parts.shape[-1])
    ranks = stats.rankdata(flat, axis=0).reshape(parts.shape)
    scores = special.ndtri((ranks - 0.375) / (len(flat) + 0.25))
    within = scores.var(0, ddof=1).mean(0)
    between = scores.mean(0).var(0, ddof=1)
    ratio = np.divide(between, within, out=np.zeros_like(within), where=within > 0)
    return float(np.sqrt(1 + ratio - 1 / half).max())
