"""Nagios and Naemon: a result by arguments, or by NAGIOS_* environment macros.

Serves notification commands, event handlers and commands for every result (OCSP, OCHP).
Acknowledgements and the start of a downtime or of flapping are no results, nor are soft states,
which Nagios is about to check again. The end of a downtime or of flapping is a result, for it comes
with the true state, and a recovery in that time is announced by nothing else. A host check is a
check named `host`; DOWN is CRITICAL, UNREACHABLE is UNKNOWN. The last state that Nagios tells is
that of the check before, not of what was notified, so it is not looked at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flipbell.agents import states

if TYPE_CHECKING:
    from flipbell.agents import Given
    from flipbell.model import CheckResult


def read(given: Given) -> list[CheckResult]:
    """Read the result that Nagios called for; options come before the environment."""
    return states.from_environment(given, "NAGIOS_")
