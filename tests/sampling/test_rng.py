"""Random numbers: one generator per particle."""

from __future__ import annotations

import pytest
import torch

from tiltkit.sampling.particles.rng import ParticleRng

CPU = torch.device("cpu")


def draws(seed, n=6, chunk=6, rounds=2, dtype=torch.float64):
    rng = ParticleRng(seed, n, CPU)
    parts = [[] for _ in range(rounds)]
    for first in range(0, n, chunk):
        rows = slice(first, min(first + chunk, n))
        for part in parts:
            part.append(rng.normal(rows, (3, 2), dtype))
    return torch.stack([torch.cat(part) for part in parts])


@pytest.mark.parametrize("chunk", [1, 2, 4])
def test_numbers_of_a_particle_do_not_depend_on_its_chunk(chunk):
    assert torch.equal(draws([1], chunk=chunk), draws([1]))


def test_numbers_of_a_particle_do_not_depend_on_how_many_others_there_are():
    assert torch.equal(draws([1], n=9)[:, :6], draws([1], n=6))


def test_seeds_and_slices_have_different_streams():
    streams = [draws(seed) for seed in ([0, 0], [0, 1], [1, 0], [1, 1])]
    for i, a in enumerate(streams):
        assert not any(torch.equal(a, b) for b in streams[i + 1 :])


def test_numbers_are_standard_normal_and_independent_between_particles():
    x = draws([3], n=20_000, chunk=20_000, rounds=1)[0].flatten(1)
    assert x.mean(0).abs().max() < 5 / 20_000**0.5
    assert (x.T.cov() - torch.eye(6)).abs().max() < 5 * (2 / 20_000) ** 0.5
    neighbours = (x[:-1] * x[1:]).mean(0)
    assert neighbours.abs().max() < 5 / 20_000**0.5


def test_shared_uniform_numbers_repeat_with_the_seed_and_lie_in_the_unit_interval():
    first, second = ParticleRng([5], 2, CPU), ParticleRng([5], 2, CPU)
    numbers = [first.uniform() for _ in range(1000)]
    assert numbers == [second.uniform() for _ in range(1000)]
    assert 0 <= min(numbers) < 0.01
    assert 0.99 < max(numbers) < 1


def test_the_global_generator_is_neither_used_nor_changed():
    before = torch.random.get_rng_state()
    first = draws([1])
    torch.rand(3)
    assert torch.equal(draws([1]), first)
    torch.random.set_rng_state(before)
    draws([2])
    assert torch.equal(torch.random.get_rng_state(), before)
