"""The words of an error: choices, what was probably meant, and what may be shown of a value."""

from __future__ import annotations

import os
import re
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# A longer word may be a token in the wrong place, unless it reads as an address.
_LONGEST_SHOWN = 11
_ADDRESS = re.compile(r"[a-z]+://[^@?]*|[a-z0-9-]+(\.[a-z0-9-]+)+(:\d+)?|@?[a-z]+")
_TOKEN = re.compile(r"[A-Za-z0-9]{24,}")


def suggestion(word: str, choices: Iterable[str]) -> str:
    """Return `, did you mean 'x'?` if one of the choices is close, in any case of its letters."""
    # It takes a millisecond to load, which a command that is called right does not pay.
    import difflib

    by_lower = {choice.lower(): choice for choice in choices}
    close = difflib.get_close_matches(word.lower(), by_lower, n=1)
    return f", did you mean {by_lower[close[0]]!r}?" if close else ""


def lowered(text: str) -> str:
    """Return a sentence's begin in small letters, unless it is an abbreviation, as in "IP"."""
    return text if text[1:2].isupper() else text[:1].lower() + text[1:]


def listed(words: Sequence[str]) -> str:
    """Return `a, b or c`."""
    return " or ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def shown(value: str) -> str:
    """Return a value in quotes; of one that may be a token in the wrong place, only its length."""
    if may_be_token(value):
        return f"a text of {len(value)} characters"
    return repr(value)


def may_be_token(value: str) -> bool:
    """Return whether a value holds a word that may be a token in the wrong place."""
    return any(
        len(word) > _LONGEST_SHOWN and not _ADDRESS.fullmatch(word) for word in value.split()
    )


def without_token(word: str) -> str:
    """Return a word of a command line as it is, or an ellipsis if it may be a token."""
    name, equals, value = word.partition("=")
    if re.fullmatch(r"-{1,2}[a-z-]+", name):
        return f"{name}{equals}{'…' if may_be_token(value) else value}"
    return "…" if may_be_token(word) else word


def is_token_like(name: str) -> bool:
    """Return whether a name looks like a token, as no name of a room or a channel does."""
    return bool(_TOKEN.fullmatch(name) and re.search(r"\d", name) and re.search(r"[A-Za-z]", name))


def user_name(number: int | None = None) -> str:
    """Return `user NAME` for a user's number, or for the user who runs this."""
    import pwd

    number = os.geteuid() if number is None else number
    try:
        return f"user {pwd.getpwuid(number).pw_name}"
    except KeyError:
        return f"user {number}"


def not_permitted(path: str, mode: int) -> str:
    """Return why this user cannot read a file or directory, and what mends it.

    *mode* are the permissions that its owner gives it.
    """
    above = os.path.dirname(path)
    while above not in ("", "/") and os.access(os.path.dirname(above), os.X_OK) is False:
        above = os.path.dirname(above)
    if above and not os.access(above, os.X_OK):
        return f"{user_name()} cannot read it, as it may not enter {above}; chmod a+x {above}"
    try:
        owner = os.stat(path).st_uid
    except OSError:
        return f"{user_name()} cannot read it; chown it to the agent's user"
    if owner == os.geteuid():
        return f"{user_name()} cannot read it, although it is the owner; chmod {mode:o} it"
    remedy = "chown it to the agent's user, and run this as that user"
    if mode & stat.S_IROTH:
        remedy = f"chmod {mode:o} it"
    name = user_name(owner).removeprefix("user ")
    return f"{user_name()} cannot read it; it is owned by {name}; {remedy}"
