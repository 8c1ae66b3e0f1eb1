"""Random numbers: counter-based, per particle."""

from __future__ import annotations

import pytest
import torch

from tiltkit.sampling.particles.rng import ParticleRng, squares

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


def squares_of_python(counter, key):
    """squares64 as published, with integers of Python."""

    def word(x):
        return x & (2**64 - 1)

    def swapped(x):
        return x >> 32 | word(x << 32)

    y = x = word(counter * key)
    z = word(y + key)
    for other in (y, z, y):
        x = swapped(word(x * x + other))
    t = word(x * x + z)
    x = swapped(t)
    return t ^ word(x * x + y) >> 32


@pytest.mark.parametrize("start", [0, 2**32 - 3, 77 << 32, 2**62])
def test_bits_are_those_of_the_published_generator(start):
    keys = [0x548C9DECBCE65297, 0x1, 0xFEDCBA9889ABCDEF]
    found = squares(start, 70, torch.tensor(keys, dtype=torch.uint64).view(torch.int64))
    words = found.contiguous().view(torch.int64)[..., 0].tolist()
    for row, key in zip(words, keys, strict=True):
        expected = [squares_of_python(start + k, key) for k in range(70)]
        assert [word & (2**64 - 1) for word in row] == expected


def test_keys_have_eight_different_digits_in_each_half_and_are_odd():
    keys = ParticleRng([4], 500, CPU)._keys.tolist()
    assert len(set(keys)) == 500
    for key in keys:
        digits = f"{key & (2**64 - 1):016x}"
        assert "0" not in digits
        assert len(set(digits[:8])) == len(set(digits[8:])) == 8
        assert key % 2 == 1


def test_bits_are_even_and_independent_between_places_particles_and_calls():
    rng = ParticleRng([5], 64, CPU)
    words = torch.stack([squares(call << 32, 4096, rng._keys) for call in range(4)])
    bits = (words[..., None] >> torch.arange(32, dtype=torch.int32) & 1).float() * 2 - 1
    n = bits[..., 0].numel() // 2
    assert bits.mean((0, 1, 2)).abs().max() < 5 / n**0.5
    for axis in (0, 1, 2):  # calls, particles, counters
        length = bits.shape[axis] - 1
        product = bits.narrow(axis, 0, length) * bits.narrow(axis, 1, length)
        assert product.mean((0, 1, 2)).abs().max() < 6 / n**0.5
    flat = bits.flatten(3).flatten(0, 2)  # the 64 bits of a word
    correlation = flat.T @ flat / len(flat) - torch.eye(64)
    assert correlation.abs().max() < 6 / len(flat) ** 0.5


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
