"""Random numbers: counter-based, per particle."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tiltkit.sampling.particles.rng import ParticleRng, philox

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


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ((0, 0), 0, (0xFF1DAE59, 0x6CD10DF2)),
        ((0xFFFFFFFF, 0xFFFFFFFF), 0xFFFFFFFF, (0x2C3F628B, 0xAB4FD7AD)),
        ((0x243F6A88, 0x85A308D3), 0x13198A2E, (0xDD7CE038, 0xF62A4C12)),
    ],
)
def test_python_integers_give_the_published_answers_of_philox(counter, key, expected):
    assert philox_of_python(*counter, key) == expected


def philox_of_python(low, high, key):
    for _ in range(10):
        product = 0xD256D193 * low
        low, high = (product >> 32) ^ key ^ high, product & 0xFFFFFFFF
        key = (key + 0x9E3779B9) & 0xFFFFFFFF
    return low, high


def test_bits_are_those_of_philox_for_every_counter_and_stream():
    streams = np.array([0, 2**64 - 1, 0x85A308D313198A2E], np.uint64)
    low, high = (half.long() & 0xFFFFFFFF for half in philox(70, streams, CPU))
    for i, stream in enumerate(streams.tolist()):
        expected = [philox_of_python(k, stream >> 32, stream & 0xFFFFFFFF) for k in range(70)]
        assert list(zip(low[i].tolist(), high[i].tolist(), strict=True)) == expected


def test_numbers_do_not_depend_on_the_number_of_threads():
    def numbers():
        return ParticleRng([0], 3, CPU).normal(slice(0, 3), (2, 257, 255), torch.float32)

    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = numbers()
        torch.set_num_threads(3)
        assert torch.equal(numbers(), alone)
    finally:
        torch.set_num_threads(threads)


def test_numbers_of_large_images_do_not_depend_on_the_chunk():
    def numbers(chunk):
        rng = ParticleRng([0], 4, CPU)
        return torch.cat([
            rng.normal(slice(first, first + chunk), (1, 300, 301), torch.float32)
            for first in range(0, 4, chunk)
        ])  # fmt: skip

    whole = numbers(4)
    assert whole.shape == (4, 1, 300, 301)
    assert torch.equal(numbers(1), whole)
    assert torch.equal(numbers(2), whole)


def test_both_types_have_the_same_numbers_up_to_rounding():
    single, double = (
        ParticleRng([0], 2, CPU).normal(slice(0, 2), (1000,), dtype)
        for dtype in (torch.float32, torch.float64)
    )
    torch.testing.assert_close(single.double(), double, rtol=1e-5, atol=1e-5)


def test_tails_and_moments_are_those_of_the_normal_distribution():
    x = ParticleRng([1], 1, CPU).normal(slice(0, 1), (4_000_000,), torch.float32).double()
    for power, moment, deviation in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96), (6, 15, 10170)):
        assert abs(float(x.pow(power).mean()) - moment) < 5 * (deviation / x.numel()) ** 0.5
    beyond = int((x.abs() > 4).sum())  # 253 are expected
    assert abs(beyond - 253) < 5 * 253**0.5


def test_restored_counters_go_on_with_the_same_numbers():
    def numbers(rng):
        return rng.normal(slice(0, 3), (5,), torch.float32), rng.uniform()

    first, second = (ParticleRng([7, 1], 3, CPU) for _ in range(2))
    numbers(first)
    second.restore(first.dump())
    (x, u), (same_x, same_u) = numbers(first), numbers(second)
    assert torch.equal(x, same_x)
    assert u == same_u


def test_the_stored_counters_are_one_number_per_particle_and_one_for_all():
    assert ParticleRng([0], 16, CPU).dump().shape == (17,)
