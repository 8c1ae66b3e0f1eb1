"""Facts about a prior: its entry, its options and its files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from tiltkit.config import with_setting
from tiltkit.digest import digest
from tiltkit.errors import InputError
from tiltkit.hookspecs import PriorEntry
from tiltkit.priors.fetch import weights_file

if TYPE_CHECKING:
    from tiltkit.plugins import Plugins
    from tiltkit.protocols import Prior

__all__ = ["full_precision_options", "prior_facts"]

# Metadata of weights files that only programs read.
_TECHNICAL = ("architecture", "config", "format")


def full_precision_options(plugins: Plugins, name: str, settings: Sequence[str]) -> dict[str, Any]:
    """Parse options of a prior, with float32 as default of ``precision``.

    In lower precision, finite differences would measure rounding errors.
    """
    options: dict[str, Any] = {}
    for setting in settings:
        options = with_setting(options, setting.removeprefix("prior."))
    model = getattr(plugins.load("prior", name), "Options", None)
    if "precision" in getattr(model, "model_fields", {}):
        options.setdefault("precision", "float32")
    return options


def prior_facts(
    plugins: Plugins, name: str, prior: Prior, options: Mapping[str, Any]
) -> dict[str, str]:
    """Facts by label, in the order in which they are printed."""
    entry = plugins.get("prior", name)
    low, high = prior.sigma_range
    facts = {
        "summary": entry.summary,
        "package": plugins.owner("prior", name).distribution,
        "channels": str(prior.channels or "any number"),
        "noise range": f"{low:.4g} to {high:.4g}",
        "value range": prior.value_range or "not stated",
        "options": ", ".join(f"{key}={value}" for key, value in options.items()) or "none set",
    }
    if isinstance(entry, PriorEntry) and entry.licence:
        facts["licence"] = entry.licence
    for path in _files(entry, options):
        facts[f"sha256 of {path.name}"] = digest(path)
        facts |= _notes(path)
    return facts


def _files(entry: object, options: Mapping[str, Any]) -> Iterator[Path]:
    """Weights of the entry, and every file that an option names."""
    if isinstance(entry, PriorEntry) and (entry.weights or entry.url):
        with weights_file(entry) as path:
            yield path
    for value in options.values():
        if isinstance(value, str | Path) and value and Path(value).is_file():
            yield Path(value)
        elif isinstance(value, str | Path) and value and Path(value).is_dir():
            yield from sorted(Path(value).rglob("*.safetensors"))


def _notes(path: Path) -> dict[str, str]:
    """Metadata of a safetensors file: training, images, size; empty for other files."""
    if path.suffix != ".safetensors":
        return {}
    try:
        with safe_open(path, framework="numpy") as file:
            notes = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is not a safetensors file.", "name another file.") from error
    known = sorted(notes.keys() - set(_TECHNICAL))
    return {f"note {key.replace('_', ' ')}": notes[key] for key in known}
