"""Weights of an entry, shipped or downloaded on request: checked by digest before they are used."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING

from tiltkit.digest import digest
from tiltkit.errors import InputError, MachineError, PluginError, UsageError

if TYPE_CHECKING:
    from tiltkit.hookspecs import PriorEntry

__all__ = ["cache_path", "fetch", "weights_file"]


@contextmanager
def weights_file(entry: PriorEntry) -> Iterator[Path]:
    """The weights of an entry as a file: in its package, or fetched before; never downloaded here.

    Raises:
        PluginError: The entry names none, or its package has lost or changed them.
        UsageError: They were not downloaded yet.
        InputError: The downloaded file has another digest than the entry's.
    """
    if entry.weights:
        package, _, path = entry.weights.partition(":")
        with as_file(files(package).joinpath(path)) as found:
            yield _checked(entry, found)
        return
    if not entry.url:
        raise PluginError(
            f"The prior {entry.name} names neither weights nor an address.",
            "its authors must add one of them to its entry.",
        )
    cached = cache_path(entry)
    if not cached.is_file():
        raise UsageError(
            f"The weights of {entry.name} are not on this computer.",
            f"download them once: tiltkit prior fetch {entry.name}.",
        )
    yield _checked(entry, cached)


def _checked(entry: PriorEntry, weights: Path) -> Path:
    """The path of the weights, once their digest is found to be that of the entry."""
    again = f"tiltkit prior fetch {entry.name}" if entry.url else "install its plugin again"
    if not weights.exists():
        raise PluginError(f"The weights of {entry.name}, {weights}, are gone.", f"{again}.")
    if entry.sha256 and digest(weights) != entry.sha256.lower():
        raise (InputError if entry.url else PluginError)(
            f"{weights.name} is not the file that {entry.name} means: its sha256 differs.",
            f"{again}.",
        )
    return weights


def cache_path(entry: PriorEntry) -> Path:
    """Path of the fetched weights of an entry in the cache.

    The digest is in the name: another version of a plugin finds its own weights.

    Raises:
        PluginError: The entry names no digest, or what downloads is not installed.
    """
    if not entry.sha256:
        raise PluginError(
            f"The prior {entry.name} names no sha256.",
            "its authors must add it: what is downloaded is checked before use.",
        )
    name = f"{entry.name.rpartition(':')[2]}-{entry.sha256[:12].lower()}.safetensors"
    try:
        import pooch
    except ImportError as error:
        raise PluginError(
            "Downloaded weights need pooch, which is not installed.", "pip install pooch"
        ) from error
    return Path(pooch.os_cache("tiltkit")) / "weights" / name


def fetch(entry: PriorEntry) -> Path:
    """Download the weights of an entry unless they are there, and check them.

    Raises:
        UsageError: The entry has nothing to download.
        PluginError: As `cache_path`, or the downloaded file is not the one that the entry names.
        MachineError: The download failed.
    """
    if not entry.url:
        where = "its weights came with its plugin" if entry.weights else "it has no weights"
        raise UsageError(
            f"The prior {entry.name} has nothing to fetch: {where}.", "use it as it is."
        )
    target = cache_path(entry)
    import pooch

    pooch.get_logger().setLevel("WARNING")
    try:
        pooch.retrieve(
            entry.url,
            known_hash=f"sha256:{entry.sha256.lower()}",
            fname=target.name,
            path=target.parent,
        )
    except ValueError as error:  # pooch raises it for another digest and an unknown protocol
        raise PluginError(
            f"{entry.url} is not the file that {entry.name} means: {_first_line(error)}",
            "try again later; if it stays so, report it to the plugin's authors.",
        ) from error
    except Exception as error:  # of requests, of the operating system
        raise MachineError(
            f"{entry.url} could not be downloaded: {_first_line(error)}.",
            "check the network, and that the address is still right.",
        ) from error
    return target


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__
