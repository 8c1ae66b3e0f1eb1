"""The entries of the plugin agree with their targets."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from importlib import import_module
from importlib.resources import files

import pytest
import tiltkit_mri
from tiltkit_mri import plugin

from tiltkit.hookspecs import Entry, PriorEntry

ENTRIES = [
    *plugin.tiltkit_tasks(),
    *plugin.tiltkit_operators(),
    *plugin.tiltkit_priors(),
    *plugin.tiltkit_readers(),
]


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_every_target_exists(entry: Entry) -> None:
    module, _, name = entry.target.partition(":")
    assert hasattr(import_module(module), name)
    assert entry.summary


@pytest.mark.parametrize("entry", plugin.tiltkit_priors(), ids=lambda entry: entry.name)
def test_the_weights_have_the_digest_of_the_entry_and_of_the_card(entry: PriorEntry) -> None:
    _, _, name = entry.weights.partition(":")
    weights = files(tiltkit_mri) / name
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    assert entry.sha256 == digest
    card = files(tiltkit_mri) / name.replace(".safetensors", ".md")
    assert digest in card.read_text()


def test_finding_the_plugin_imports_nothing_heavy() -> None:
    code = (
        "import sys, tiltkit_mri.plugin as p; p.tiltkit_tasks(); p.tiltkit_priors();"
        "sys.exit(', '.join({'torch', 'h5py', 'numpy', 'pydantic'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
