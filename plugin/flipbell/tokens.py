"""Which environment variables hold a room's token, so that a wrapped check does not inherit them.

Only names are looked for, as text: `run` is started for every check and must not parse YAML, and
a configuration with a mistake in it must not give a token away either.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_ADDED = ("C.UTF-8", "C.utf8", "UTF-8")
_KEY = b"token_env"
_SUFFIXES = (".yaml", ".yml")


def inherited(environ: Mapping[str, str]) -> Mapping[str, str]:
    """Return the environment as the agent gave it.

    Where the agent has no locale, Python adds LC_CTYPE, which could change what the check says.
    """
    if environ.get("LC_CTYPE") not in _ADDED:
        return environ
    given = b"\0" + _content("/proc/self/environ")
    if b"\0LC_CTYPE=" in given or given == b"\0":  # given, or not to be known
        return environ
    return {name: value for name, value in environ.items() if name != "LC_CTYPE"}


def without(environ: Mapping[str, str], config: str) -> dict[str, str]:
    """Return the environment without the variables that the configuration names as tokens."""
    names = set(_names(config))
    return {name: value for name, value in environ.items() if name not in names}


def _names(config: str) -> Iterator[str]:
    try:
        files = [name for name in os.listdir(config) if name.endswith(_SUFFIXES)]
    except OSError:  # no configuration names no variable
        return
    for name in files:
        yield from _names_in(_content(f"{config}/{name}"))


def _content(path: str) -> bytes:
    try:
        opened = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return b""
    try:
        return os.read(opened, 1 << 20)
    except OSError:  # a directory
        return b""
    finally:
        os.close(opened)


def _names_in(content: bytes) -> Iterator[str]:
    """Yield the word after each `token_env`, whatever quotes and punctuation stand between."""
    for piece in content.split(_KEY)[1:]:
        word = piece[:200].lstrip(b"\"' \t\r\n:>|-").split(maxsplit=1)
        if word:
            yield word[0].rstrip(b"\"',}").decode("ascii", "replace")
