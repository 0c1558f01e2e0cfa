"""`flipbell help`: the commands in groups, by what they are for."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

GROUPS = (
    ("Set up", ("init", "check-config", "test", "explain", "hooks")),
    ("Take results", ("run", "report", "stream")),
    ("Look", ("status", "history", "channels")),
    ("Deliver and tidy up", ("flush", "courier", "dead", "forget")),
    ("Try it on this machine", ("demo", "room")),
)
_OTHERS = "Others"
_COLUMNS = 14


def grouped(summaries: Mapping[str, str], about: str) -> str:
    """Return the help of the whole program; *summaries* is by command."""
    named = {name for _, names in GROUPS for name in names}
    others = (_OTHERS, tuple(name for name in summaries if name not in named))
    parts = ["usage: flipbell COMMAND [OPTION ...]", about]
    for title, names in (*GROUPS, others):
        lines = [_line(name, summaries[name]) for name in names if name in summaries]
        if lines:
            parts.append("\n".join([f"{title}:", *lines]))
    parts.append("flipbell help COMMAND shows its options and an example.")
    return "\n\n".join(parts) + "\n"


def _line(name: str, summary: str) -> str:
    return f"  {name:{_COLUMNS}}{summary[:1].lower()}{summary[1:].rstrip('.')}"
