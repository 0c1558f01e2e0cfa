"""Performance data: what a check plugin's output holds for graphs, not for people.

In the Nagios plugin API it follows a `|` on the first line, and another one in the long text, up
to the end. A `|` that is followed by something else, as in a shell's pipeline, is text.
"""

from __future__ import annotations

import re

_ITEM = re.compile(r"\s*(?:'(?:[^']|'')*'|[^\s='|]+)=(?:U\b|[-+]?[.,]?\d)")


def split(output: str) -> tuple[str, str]:
    """Return a check's output without its performance data, and that data in one line."""
    first, newline, rest = output.partition("\n")
    text, data = _divided(first)
    long_text, more = _divided(rest)
    return text + newline + long_text, " ".join(f"{data} {more}".split())


def _divided(text: str) -> tuple[str, str]:
    """Divide a text at the first `|` that performance data follows."""
    bar = text.find("|")
    while bar >= 0:
        if _ITEM.match(text, bar + 1):
            return text[:bar].rstrip(), text[bar + 1 :]
        bar = text.find("|", bar + 1)
    return text, ""
