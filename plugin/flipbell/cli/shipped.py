"""Where what is shipped beside the package is: `hooks/` and `conf.d/`."""

from __future__ import annotations

import sysconfig
from pathlib import Path

from flipbell.cli import CommandError


def shipped(name: str) -> Path:
    """Return a shipped file or folder: of the checkout that is installed editable, or as installed.

    Raises CommandError.
    """
    checkout = Path(__file__).parents[3]
    installed = Path(sysconfig.get_path("data")) / "share" / "flipbell"
    home = checkout if (checkout / "hooks" / "README.md").is_file() else installed
    if not (home / name).exists():
        raise CommandError(f"{home / name} is missing; install flipbell from its wheel")
    return home / name
