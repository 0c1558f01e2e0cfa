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
    fault = mismatch(ledger, config)
    if fault is not None:
        raise LedgerError(fault)
    config = escaped(config)
    if ledger.setting("config") != config:
        ledger.set("config", config)


def mismatch(ledger: Ledger, config: str) -> str | None:
    """Return why a configuration cannot be used with a ledger, and the ways out; None if it can."""
    bound, config = _bound(ledger), escaped(config)
    if bound == places.SYSTEM_CONFIG and config == escaped(places.own_config(os.environ)):
        # A user who had none has made one, and it wins over the system's.
        return None
    if bound is None or bound == config or not os.path.isdir(bound):
        return None
    return (
        f"this state directory belongs to the configuration {bound}, and this is {config}; "
        f"use --config {bound}, or give each configuration its own --state, "
        "or remove the old one to move"
    )


def _bound(ledger: Ledger) -> str | None:
    """Return the configuration that the state is bound to; None for a name that is damaged."""
    bound = ledger.setting("config")
    if not isinstance(bound, str) or not bound.startswith("/") or "\ufffd" in bound:
        return None
    return bound


def config_for(directory: str, said: str | None) -> str:
    """Return the configuration to use: as said, else the one that the state is bound to.

    A state of the user's own that is bound to the system's configuration goes over to the user's
    own once there is one.
    """
    if places.said_config(said, os.environ) is None:
        try:
            ledger = Ledger.view(directory)
        except (sqlite3.Error, OSError):  # the next to use it says what is wrong
            ledger = None
        if ledger is not None:
            try:
                bound = _bound(ledger)
            except sqlite3.Error:  # not set up yet, or broken: the courier finds out
                bound = None
            finally:
                ledger.close()
            if bound is not None and not _is_left_for_own(directory, bound):
                return bound
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
