"""Whose the state of this host's checks is: a user who cannot read it must not be told "none"."""

from __future__ import annotations

import os

from flipbell import places
from flipbell.wording import user_name


def hidden_state(option: str | None, directory: str) -> str | None:
    """Return why the user who runs this cannot know the host's state; None if it can.

    *option* is the `--state` that was given, *directory* the place that results from it. An
    operator who names a directory asks for that one alone.
    """
    if option or os.environ.get("FLIPBELL_STATE"):
        return None
    system = places.SYSTEM_STATE
    try:
        owner = os.stat(system).st_uid
    except OSError:
        return None
    if directory == system or owner == os.geteuid():
        return None
    reader = f"{user_name(owner)} or as root" if owner else "root"
    return (
        f"state directory {system}: belongs to {user_name(owner)}, and this is {user_name()}, "
        f"who cannot know what is in it; run this as {reader} to see it"
    )
