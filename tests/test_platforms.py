"""Systems other than Linux: Windows has neither some modules nor most signals."""

from __future__ import annotations

import json
import subprocess
import sys

PACKAGES = ("tiltkit", "tiltkit_baselines", "tiltkit_ct", "tiltkit_deblur", "tiltkit_mri")
# Third-party packages are right on Windows in their own way: they are imported before.
SCRIPT = """
import importlib, json, os, pkgutil, signal, sys
import h5py, matplotlib, pydantic, rich.console, scipy.fft, skimage, torch
for name in ("fcntl", "grp", "pwd", "resource", "termios"):
    sys.modules[name] = None
for name in ("SIGHUP", "SIGUSR1", "SIGUSR2", "SIGKILL", "SIGTSTP", "SIGALRM"):
    delattr(signal, name)
for name in ("sched_getaffinity", "process_cpu_count", "geteuid", "getuid", "fork"):
    if hasattr(os, name):
        delattr(os, name)
names = []
for package in sys.argv[1:]:
    path = importlib.import_module(package).__path__
    names += [package, *(m.name for m in pkgutil.walk_packages(path, package + "."))]
for name in names:
    if not name.endswith("__main__"):
        importlib.import_module(name)
print(json.dumps(names))
"""


def test_every_module_is_imported_where_posix_is_missing() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *PACKAGES], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    names = json.loads(done.stdout)
    assert {"tiltkit.recon.solve", "tiltkit.io.disk", "tiltkit_ct.plugin"} <= set(names)
