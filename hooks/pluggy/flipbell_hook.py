"""Drop-in for a Python agent with pluggy: put it where the agent loads its plugins from.

An agent that registers modules calls `register` with its plugin manager, or does the same in one
line of its own: `flipbell.attach(manager)`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import flipbell

if TYPE_CHECKING:
    import pluggy


def register(manager: pluggy.PluginManager) -> None:
    """Attach flipbell to the agent's plugin manager; a second call changes nothing."""
    flipbell.attach(manager)
