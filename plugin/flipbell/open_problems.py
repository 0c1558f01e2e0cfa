"""The checks that are not OK, by the ledger and by what the courier has yet to take."""

from __future__ import annotations

import sqlite3

from flipbell import spool
from flipbell.ledger import Ledger


def open_problems(directory: str) -> set[tuple[str, str]]:
    """Return host and name of each check whose last recorded result is not OK; change nothing.

    Raises OSError if the state directory cannot be read.
    """
    try:
        ledger = Ledger.view(directory)
        problems: set[tuple[str, str]] = set()
        position = spool.START
        if ledger is not None:
            try:
                with ledger.snapshot():
                    problems = {(host, check) for host, check, _, _ in ledger.problems()}
                    position = ledger.position()
            finally:
                ledger.close()
    except sqlite3.Error as error:
        raise OSError(f"{directory}: {error}") from error
    _follow(problems, spool.Reader(directory, position))
    return problems


def _follow(problems: set[tuple[str, str]], reader: spool.Reader) -> None:
    """Bring the problems up to the spool's end."""
    before = None
    while reader.position != before:
        before = reader.position
        for line in reader.lines():
            result = spool.decode(line)
            if result is None or result[1] == spool.REVIVE:
                continue
            _, status, host, check, *_ = result
            if status in (0, spool.FORGET):
                problems.discard((host, check))
            else:
                problems.add((host, check))
