"""Icinga 2: a result by arguments, or by the variables that the drop-in's commands declare.

Icinga exports no macros by itself; the drop-in names them ICINGA_*. An acknowledgement and the
start of a downtime or of flapping are no results, nor is a soft state; the end of a downtime or of
flapping is one. The last state is that of the check before, and the last hard state is already the
new one, so neither is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flipbell.agents import states

if TYPE_CHECKING:
    from flipbell.agents import Given
    from flipbell.model import CheckResult


def read(given: Given) -> list[CheckResult]:
    """Read the result that a notification or an event command is for."""
    return states.from_environment(given, "ICINGA_", newline="\n")
