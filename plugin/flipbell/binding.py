"""Which configuration a state directory belongs to: the first that it was used with."""

from __future__ import annotations

import os
import sqlite3

from flipbell import places
from flipbell.ledger import Ledger, LedgerError
from flipbell.log import escaped


def claim_config(ledger: Ledger, config: str) -> None:
    """Bind the state directory to its configuration; a moved one is taken over.

    Raises LedgerError: two configurations on one state would each miss what the other was told.
    """
    config = escaped(config)
    bound = ledger.setting("config")
    if bound == places.SYSTEM_CONFIG and config == escaped(places.own_config(os.environ)):
        # A user who had none has made one, and it wins over the system's.
        bound = None
    if bound is not None and bound != config and os.path.isdir(bound):
        raise LedgerError(
            f"this state directory belongs to the configuration {bound}, and this is {config}; "
            "give each configuration its own --state, or remove the old one to move"
        )
    if bound != config:
        ledger.set("config", config)


def config_for(directory: str, said: str | None) -> str:
    """Return the configuration to use: as said, else the one that the state is bound to.

    A state of the user's own that is bound to the system's configuration goes over to the user's
    own once there is one.
    """
    if places.said_config(said, os.environ) is None:
        try:
            ledger = Ledger.view(directory)
        except (sqlite3.Error, OSError):  # whoever goes on to use it says what is wrong
            ledger = None
        if ledger is not None:
            try:
                bound = ledger.setting("config")
            except sqlite3.Error:  # not set up yet, or broken: the courier finds out
                bound = None
            finally:
                ledger.close()
            if bound is not None and not _is_left_for_own(directory, str(bound)):
                return str(bound)
    return places.find_config(said, os.environ)


def _is_left_for_own(directory: str, bound: str) -> bool:
    """Return whether the system's configuration has been left for the user's own."""
    is_systems = bound == places.SYSTEM_CONFIG and directory != places.SYSTEM_STATE
    return is_systems and os.path.isdir(places.own_config(os.environ))


def reason_for(config: str, said: str | None) -> str:
    """Return why this is the configuration that is used."""
    if said:
        return "named by --config"
    if os.environ.get("FLIPBELL_CONFIG"):
        return "named by FLIPBELL_CONFIG"
    if config != places.find_config(None, os.environ):
        return "the one that this state belongs to"
    if config == places.SYSTEM_CONFIG:
        return "the system's"
    return "this user's own, which comes before the system's"
