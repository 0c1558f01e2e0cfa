"""The words of an error: lists of choices, and what was probably meant."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def suggestion(word: str, choices: Iterable[str]) -> str:
    """Return `, did you mean 'x'?` if one of the choices is close, in any case of its letters."""
    # It takes a millisecond to load, which a command that is called right does not pay.
    import difflib

    by_lower = {choice.lower(): choice for choice in choices}
    close = difflib.get_close_matches(word.lower(), by_lower, n=1)
    return f", did you mean {by_lower[close[0]]!r}?" if close else ""


def listed(words: Sequence[str]) -> str:
    """Return `a, b or c`."""
    return " or ".join(filter(None, [", ".join(words[:-1]), words[-1]]))
