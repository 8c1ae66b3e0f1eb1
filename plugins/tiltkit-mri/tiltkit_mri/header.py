"""Values of an ISMRMRD XML header that a reconstruction needs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from xml.etree import ElementTree

__all__ = ["Header", "parse_header"]

_NAMESPACE = {"m": "http://www.ismrm.org/ISMRMRD"}


@dataclass(frozen=True, slots=True)
class Header:
    """Geometry of the first encoding; x is the readout (rows), y the phase encoding (columns).

    Attributes:
        encoded: Encoded matrix (x, y), or None.
        recon: Reconstructed matrix (x, y), or None.
        encoded_fov: Field of view of the encoded matrix (x, y) in mm, or None.
        thickness: Field of view across the slice in mm, or None.
        centre: Phase encoding step of the k-space centre, or None.
        maximum: Last phase encoding step, or None.
    """

    encoded: tuple[int, int] | None = None
    recon: tuple[int, int] | None = None
    encoded_fov: tuple[float, float] | None = None
    thickness: float | None = None
    centre: int | None = None
    maximum: int | None = None

    @property
    def measured_columns(self) -> tuple[int, int] | None:
        """First and one past the last column that was measured; the rest is zero filling."""
        if self.encoded is None or self.centre is None or self.maximum is None:
            return None
        left = self.encoded[1] // 2 - self.centre
        return left, left + self.maximum + 1


def parse_header(xml: str) -> Header:
    """Read a header; what is missing in it, or all of it when it is no XML, becomes None."""
    try:
        # expat bounds entity expansion, and no external entity is ever fetched.
        root = ElementTree.fromstring(xml)  # noqa: S314
    except ElementTree.ParseError:
        return Header()

    def number(path: str) -> float | None:
        text = root.findtext("/".join(f"m:{part}" for part in path.split("/")), None, _NAMESPACE)
        try:
            value = math.nan if text is None else float(text)
        except ValueError:
            return None
        return value if math.isfinite(value) else None

    def pair(path: str) -> tuple[float, float] | None:
        x, y = number(f"{path}/x"), number(f"{path}/y")
        return None if x is None or y is None or min(x, y) <= 0 else (x, y)

    limits = "encoding/encodingLimits/kspace_encoding_step_1"
    return Header(
        encoded=_whole(pair("encoding/encodedSpace/matrixSize")),
        recon=_whole(pair("encoding/reconSpace/matrixSize")),
        encoded_fov=pair("encoding/encodedSpace/fieldOfView_mm"),
        thickness=number("encoding/encodedSpace/fieldOfView_mm/z") or None,
        centre=_int(number(f"{limits}/center")),
        maximum=_int(number(f"{limits}/maximum")),
    )


def _whole(pair: tuple[float, float] | None) -> tuple[int, int] | None:
    return None if pair is None or min(pair) < 1 else (int(pair[0]), int(pair[1]))


def _int(number: float | None) -> int | None:
    return None if number is None else int(number)
