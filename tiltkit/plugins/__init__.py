"""Finds plugins, keeps broken ones from breaking others, and gives what they add by name.

``discover`` reads metadata, ``gather`` imports a plugin's hook module and calls its hooks,
``check`` judges the records, ``names`` tells equal names apart, ``targets`` imports code on first
use, ``made`` judges what that code makes, ``host`` puts it together. Nothing here imports torch.
"""

from __future__ import annotations

from tiltkit.plugins.host import Plugins, load_plugins
from tiltkit.plugins.record import Plugin

__all__ = ["Plugin", "Plugins", "load_plugins"]
