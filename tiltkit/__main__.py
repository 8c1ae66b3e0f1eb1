"""``python -m tiltkit``."""

from tiltkit.cli import main

main()
