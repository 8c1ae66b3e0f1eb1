"""Plugins: discovery, isolation of broken ones, access to their entries by name.

`host` is the entrance. `discover` reads the metadata of packages; `hooks` imports a plugin's hook
module and calls its hooks; `records` checks the entries that they return; `names` resolves equal
names; `targets` imports the code of an entry on first use; `members` checks the objects that this
code creates; `doctor` examines everything at once. Nothing here imports torch.
"""

from __future__ import annotations

from tiltkit.plugins.host import Plugins, load_plugins
from tiltkit.plugins.plugin import Plugin

__all__ = ["Plugin", "Plugins", "load_plugins"]
