"""The words of an error: lists of choices, and what was probably meant."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def suggestion(word: str, choices: Iterable[str]) -> str:
    """Return `, did you mean 'x'?` where one of the choices is close."""
    close = difflib.get_close_matches(word.lower(), list(choices), n=1)
    return f", did you mean {close[0]!r}?" if close else ""


def listed(words: Sequence[str]) -> str:
    """Return `a, b or c`."""
    return " or ".join(filter(None, [", ".join(words[:-1]), words[-1]]))
