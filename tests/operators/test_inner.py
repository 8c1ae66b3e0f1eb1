"""Inner products against numpy in double precision."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tiltkit.operators.inner import inner


@pytest.mark.parametrize("rows", [True, False])
@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((3, 7), torch.float32), ((3, 2, 5), torch.float32), ((2, 2, 40, 50), torch.float32),
        ((1, 40, 50, 2), torch.float64), ((3, 4, 33), torch.complex64),
    ],
)  # fmt: skip
def test_inner_products_are_those_of_numpy_in_double_precision(
    shape: tuple[int, ...], dtype: torch.dtype, rows: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tiltkit.operators.inner.by_rows", lambda _device: rows)
    a, b = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0), dtype=dtype)
    exact = (np.conj(a.numpy()).astype(complex) * b.numpy()).reshape(len(a), -1).real
    found = inner(a, b)
    assert found.dtype == torch.float64
    error = np.abs(found.numpy() - exact.sum(1))
    assert (error <= 1e-6 * np.abs(exact).sum(1)).all()
