"""Field of view, matrix and pixel size: what the header asks for is what the image shows."""

from __future__ import annotations

import pytest
import torch
from tiltkit_mri.geometry import Grid, adapt_header, image_grid, interpolation
from tiltkit_mri.header import Header


def header(
    encoded: tuple[int, int] | None,
    recon: tuple[int, int] | None,
    encoded_fov: tuple[float, float] | None,
    recon_fov: tuple[float, float] | None,
) -> Header:
    return Header(encoded=encoded, recon=recon, encoded_fov=encoded_fov, recon_fov=recon_fov)


def test_readout_and_phase_oversampling_are_cut_without_interpolation() -> None:
    asked = header((512, 200), (256, 160), (512, 250), (256, 200))
    assert image_grid(asked, (512, 200)) == Grid((256, 160), (256, 160), (1, 1), (1.0, 1.25))


def test_phase_resolution_keeps_all_columns_and_makes_pixels_square() -> None:
    grid = image_grid(header((460, 136), (230, 180), (460, 180), (230, 180)), (460, 136))
    assert grid.cut == (230, 136)
    assert grid.matrix == (230, 180)
    assert grid.step == pytest.approx((1, 136 / 180))
    assert grid.pixel_mm == pytest.approx((1, 1))


def test_interpolation_keeps_the_field_of_view() -> None:
    grid = image_grid(header((460, 180), (460, 360), (460, 180), (230, 180)), (460, 180))
    assert grid.cut == (230, 180)
    assert grid.matrix == (460, 360)
    assert grid.pixel_mm == pytest.approx((0.5, 0.5))


def test_rounded_fields_of_view_ask_for_no_interpolation() -> None:
    grid = image_grid(header((640, 368), (320, 320), (280, 161.012), (140, 140)), (640, 368))
    assert grid.step == (1, 1)
    assert grid.cut == grid.matrix == (320, 320)


def test_an_image_wider_than_the_encoded_field_of_view_ends_with_it() -> None:
    grid = image_grid(header((640, 136), (320, 320), (440, 180), (220, 220)), (640, 136))
    assert grid.cut == (320, 136)
    assert grid.matrix == (320, 261)
    assert grid.matrix[1] * grid.pixel_mm[1] == pytest.approx(180, abs=220 / 320)  # type: ignore[index]


@pytest.mark.parametrize("known", [(None, None), (None, (230.0, 180.0))])
def test_without_an_encoded_field_of_view_the_matrix_is_cut_from_the_grid(
    known: tuple[None, tuple[float, float] | None],
) -> None:
    assert image_grid(header(None, (230, 300), *known), (460, 180)) == Grid((230, 180), (230, 180))


@pytest.mark.parametrize("n", [9, 12])
@pytest.mark.parametrize("step", [0.3, 0.75, 1.0, 1.6])
def test_waves_of_the_new_grid_are_evaluated_exactly(n: int, step: float) -> None:
    size = int(n / step)
    matrix = interpolation(n, size, step).double()
    x = torch.arange(n) - n // 2
    position = (torch.arange(size) - size // 2) * step
    for wave in range(int(n / (2 * max(step, 1)) - 0.1) + 1):
        angle = 2 * torch.pi * wave / n
        expected = torch.sin(angle * position + 0.3)
        torch.testing.assert_close(
            matrix @ torch.sin(angle * x.double() + 0.3), expected.double(), atol=1e-5, rtol=0
        )


def test_waves_too_fine_for_coarser_pixels_are_left_out() -> None:
    x = torch.arange(16) - 8
    fine = torch.cos(2 * torch.pi * 7 / 16 * x)
    assert interpolation(16, 8, 2.0).mv(fine).abs().max() < 1e-5


def test_a_header_off_by_few_columns_keeps_its_pixel_size_with_a_note() -> None:
    asked = header((460, 182), (230, 180), (460, 182), (230, 180))
    adapted, notes = adapt_header(asked, (460, 180))
    assert image_grid(adapted, (460, 180)) == Grid((230, 180), (230, 180), (1, 1), (1, 1))
    assert [note.code for note in notes] == ["header_adapted"]
    assert notes[0].assumed
    assert "460 x 182, this one is 460 x 180" in notes[0].text


def test_oversampling_that_was_removed_from_the_data_is_not_cut_again() -> None:
    asked = header((460, 180), (230, 180), (460, 180), (230, 180))
    adapted, notes = adapt_header(asked, (230, 180))
    assert image_grid(adapted, (230, 180)) == Grid((230, 180), (230, 180), (1, 1), (1, 1))
    assert [note.code for note in notes] == ["header_adapted"]


def test_a_header_of_another_scan_is_left_out_with_a_note() -> None:
    adapted, notes = adapt_header(header((48, 20), (12, 16), None, None), (24, 20))
    assert adapted == Header()
    assert [note.code for note in notes] == ["header_ignored"]
