"""A ledger that is broken: it is set aside, and each room is told so once."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from flipbell import log, spool
from flipbell._database import is_broken, is_suspicious, last_set_aside, set_aside

if TYPE_CHECKING:
    from flipbell.ledger import Ledger
    from flipbell.stamps import Stamps


def was_due(directory: str, error: Exception, stamps: Stamps, now: float) -> bool:
    """Set the ledger aside if an error means that it is broken; return whether it was.

    The caller holds the courier's lock. Raises OSError.
    """
    if not is_suspicious(error) or not is_broken(directory):
        return False
    stamps.clear()
    aside = set_aside(directory, now)
    log.error(f"the ledger is broken, and was set aside as {aside}: the state was reset")
    return True


def note(directory: str, ledger: Ledger, now: float) -> None:
    """Tell the rooms of a reset, also where a courier died before it could."""
    aside = last_set_aside(directory)
    if aside is not None and aside != ledger.setting("reset"):
        end = spool.end(directory)[1]
        where = (spool.begin(directory), end)
        ledger.note_reset(os.uname().nodename, aside, where, now)
