"""What a message says of a check: its subject and status, which the timeline shows as bars.

flipbell's own messages say both, as in `CRITICAL: disk on web-01 (was OK for 3 s)`. Of any other
client's message, the sender is the subject and the colour is the status.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_STATUS_OF = {"green": "OK", "yellow": "WARNING", "red": "CRITICAL", "gray": "UNKNOWN"}
OTHER = "OTHER"  # purple, which says nothing of a status
_MARK = re.compile(r"^(?:\((?:repeat|late|test)[^()]{0,80}\) ?)+")
_HEAD = re.compile(r"^(OK|WARNING|CRITICAL|UNKNOWN): (.{1,420}?)(?: \((?:was|at) .*)?$")
_LONGEST = 100


@dataclass(frozen=True, slots=True)
class Reading:
    """A point of a timeline: from then on, the subject had the status."""

    subject: str
    status: str


def read(text: str, color: str, sender: str) -> Reading | None:
    """Return what a message, as plain text, says; None for one that is only a test."""
    head = text.lstrip().partition("\n")[0].strip()
    if head.startswith("(test)"):
        return None
    found = _HEAD.match(_MARK.sub("", head))
    if found:
        return Reading(found[2][:_LONGEST], found[1])
    return Reading((sender or "messages")[:_LONGEST], _STATUS_OF.get(color, OTHER))
