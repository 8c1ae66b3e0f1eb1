"""Values of an ISMRMRD XML header that a reconstruction needs."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from xml.etree import ElementTree

__all__ = ["NAMESPACE", "Header", "parse_header", "parse_xml", "plain_text"]

# Matrices with a longer side are mistakes.
_LARGEST = 2**14
NAMESPACE = {"m": "http://www.ismrm.org/ISMRMRD"}


@dataclass(frozen=True, slots=True)
class Header:
    """Geometry of one encoding; x is the readout (rows), y the phase encoding (columns).

    Attributes:
        encoded: Encoded matrix (x, y), or None.
        recon: Reconstructed matrix (x, y), or None.
        encoded_fov: Field of view of the encoded matrix (x, y) in mm, or None.
        recon_fov: Field of view of the reconstructed matrix (x, y) in mm, or None.
        thickness: Field of view across the slice, or across all partitions of a volume, in mm,
            or None.
        recon_thickness: Field of view across all partitions to reconstruct in mm, or None.
        partitions: Encoded and reconstructed number of partitions of a volume; 1 for slices.
        centre: Phase encoding step of the k-space centre, or None.
        maximum: Last phase encoding step, or None.
        partition_centre: Step of the k-space centre across the partitions, or None.
        trajectory: ``"cartesian"``, ``"epi"``, ``"radial"``, ``"spiral"``, ...; empty if unknown.
        noise_bandwidth: Bandwidth of the noise in a noise scan as a share of its sampling rate.
    """

    encoded: tuple[int, int] | None = None
    recon: tuple[int, int] | None = None
    encoded_fov: tuple[float, float] | None = None
    recon_fov: tuple[float, float] | None = None
    thickness: float | None = None
    recon_thickness: float | None = None
    partitions: tuple[int, int] = (1, 1)
    centre: int | None = None
    maximum: int | None = None
    partition_centre: int | None = None
    trajectory: str = ""
    noise_bandwidth: float = 1.0

    @property
    def measured_columns(self) -> tuple[int, int] | None:
        """First and one past the last column that was measured; the rest is zero filling."""
        if self.encoded is None or self.centre is None or self.maximum is None:
            return None
        left = self.encoded[1] // 2 - self.centre
        return left, left + self.maximum + 1


def parse_header(xml: str, encoding: int = 0) -> Header:
    """Read a header; values that are missing, or all of them where it is no XML, become None.

    Args:
        xml: The document.
        encoding: Number of the encoding; a scan has more than one where its calibration lines, for
            example, have a geometry of their own.
    """
    root = parse_xml(xml)
    if root is None:
        return Header()
    encodings = root.findall("m:encoding", NAMESPACE)
    if not encoding < len(encodings):
        return Header()
    number = _numbers(encodings[encoding])
    spaces = "encodedSpace", "reconSpace"
    matrices, fovs = ([_pair(number, f"{space}/{kind}") for space in spaces]
                      for kind in ("matrixSize", "fieldOfView_mm"))  # fmt: skip
    steps, partitions = (f"encodingLimits/kspace_encoding_step_{axis}" for axis in (1, 2))
    bandwidth = _numbers(root)("acquisitionSystemInformation/relativeReceiverNoiseBandwidth")
    encoded_z, recon_z = (_int(number(f"{space}/matrixSize/z")) or 1 for space in spaces)
    return Header(
        encoded=_whole(matrices[0]),
        recon=_whole(matrices[1]),
        encoded_fov=fovs[0],
        recon_fov=fovs[1],
        thickness=_positive(number("encodedSpace/fieldOfView_mm/z")),
        recon_thickness=_positive(number("reconSpace/fieldOfView_mm/z")),
        partitions=(max(encoded_z, 1), max(recon_z, 1)),
        centre=_int(number(f"{steps}/center")),
        maximum=_int(number(f"{steps}/maximum")),
        partition_centre=_int(number(f"{partitions}/center")),
        trajectory=encodings[encoding].findtext("m:trajectory", "", NAMESPACE).strip().lower(),
        noise_bandwidth=bandwidth if bandwidth and 0 < bandwidth <= 1 else 1.0,
    )


def parse_xml(xml: str) -> ElementTree.Element | None:
    """The root of a document; None where it is no XML."""
    try:
        # expat bounds entity expansion, and no external entity is ever fetched.
        return ElementTree.fromstring(xml)  # noqa: S314
    except (ElementTree.ParseError, ValueError):
        return None


def _numbers(element: ElementTree.Element) -> Callable[[str], float | None]:
    """A function from a path below an element to the finite number that is there, or None."""

    def number(path: str) -> float | None:
        text = element.findtext("/".join(f"m:{part}" for part in path.split("/")), "", NAMESPACE)
        try:
            value = float(text)
        except ValueError:
            return None
        return value if math.isfinite(value) else None

    return number


def _pair(number: Callable[[str], float | None], path: str) -> tuple[float, float] | None:
    x, y = _positive(number(f"{path}/x")), _positive(number(f"{path}/y"))
    return None if x is None or y is None else (x, y)


def _positive(number: float | None) -> float | None:
    return None if number is None or number <= 0 else number


def plain_text(value: object) -> str:
    """A string as a file stores it, bytes or text; bytes that are no UTF-8 are replaced."""
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _whole(pair: tuple[float, float] | None) -> tuple[int, int] | None:
    """A matrix size; None where it is that of no scan."""
    if pair is None or min(pair) < 1 or max(pair) > _LARGEST:
        return None
    return int(pair[0]), int(pair[1])


def _int(number: float | None) -> int | None:
    return None if number is None else int(number)
