"""The Room Notification Token: where a channel has it, and what is wrong with it there.

A token is shown nowhere: not in an error, a representation or a log.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from flipbell import places
from flipbell.wording import may_be_token, not_permitted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flipbell._yaml import Section

_TOKEN_LIMIT = 4096


class TokenError(Exception):
    """The token cannot be had; the message names where it was looked for."""


@dataclass(frozen=True, slots=True)
class Token:
    """Where a room's token is: read at each use, so that a new one is used at once."""

    file: str | None = None
    variable: str | None = field(default=None, repr=False)
    inline: str | None = field(default=None, repr=False)

    def read(self, environ: Mapping[str, str]) -> str:
        """Return the token. Raises TokenError."""
        if self.file is not None:
            return checked_token(read_token(self.file), self.file)
        if self.variable is not None:
            if self.variable not in environ:
                raise TokenError(
                    f"{self._name}: not set; set it in the environment of the agent or courier"
                )
            return checked_token(environ[self.variable], self._name)
        return checked_token(self.inline or "", "token")

    @property
    def _name(self) -> str:
        """The variable's name, unless it looks like a token in the wrong place."""
        is_usual = re.fullmatch(r"[A-Z_][A-Z0-9_]{0,39}", self.variable or "")
        return self.variable or "" if is_usual else "the variable that token_env names"


def read_token(path: str) -> str:
    """Return what a token's file holds. Raises TokenError."""
    try:
        opened = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a FIFO must not block
        with open(opened, "rb") as file:
            _refuse_borrowed(path, os.fstat(opened).st_uid)
            content = file.read(_TOKEN_LIMIT + 1)
    except FileNotFoundError:
        raise TokenError(f"{path}: no such file; write the room's token into it") from None
    except PermissionError:
        raise TokenError(f"{path}: {not_permitted(path, 0o600)}") from None
    except OSError as error:
        raise TokenError(f"{path}: {error.strerror}; expected a file with a token") from None
    return content.decode("latin-1").removesuffix("\n").removesuffix("\r")


def _refuse_borrowed(path: str, owner: int) -> None:
    """Let no other user have root send a file that only root can read. Raises TokenError."""
    user = places.keeper(path) if os.geteuid() == 0 else 0
    if user not in (0, owner):
        raise TokenError(
            f"{path}: user {user} decides what this path leads to, and the file there belongs to "
            f"user {owner}; expected a file of that user, or a path that is all root's"
        )


def checked_token(token: str, source: str) -> str:
    """Return the token. Raises TokenError where it cannot be one."""
    if not token:
        raise TokenError(f"{source}: empty; expected the room's token")
    if len(token) > _TOKEN_LIMIT:
        raise TokenError(f"{source}: expected a token of at most {_TOKEN_LIMIT} characters")
    if not re.fullmatch(r"[!-~]+", token):
        raise TokenError(
            f"{source}: expected one token, without spaces, control or non-ASCII characters"
        )
    return token


def token_of(section: Section) -> Token | None:
    """Read where a channel's token is, its own before that of the defaults."""
    homes = {name: section.home_of(name) for name in ("token_file", "token_env", "token")}
    given = [name for name, home in homes.items() if home is section]
    given = given or [name for name, home in homes.items() if home]
    if not given:
        section.problem("token_file", "required: a file that holds the token (or token_env: NAME)")
        return None
    if len(given) > 1:
        section.problem(given[1], f"expected one token, got {' and '.join(given)}; keep one")
        return None
    name = given[0]
    if name == "token":
        return _inline_token(section)
    value = section.text(name, "a name", is_secret=True)
    if value is None:
        return None
    if name == "token_env":
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", value):
            section.problem(name, "expected the name of an environment variable, as in OPS_TOKEN")
            return None
        return Token(variable=value)
    if not os.path.isabs(value):
        got = f", got {value!r}" if "/" in value and not may_be_token(value) else ""
        section.problem(name, f"expected an absolute path{got}")
        return None
    try:
        checked_token(read_token(value), value)
    except TokenError as error:
        section.warn(name, str(error), blocks=True)
        return Token(file=value)
    with contextlib.suppress(OSError):  # removed meanwhile
        if os.stat(value).st_mode & stat.S_IROTH:
            section.warn(name, f"{value}: every user of this host can read it; chmod 600 it")
    return Token(file=value)


def _inline_token(section: Section) -> Token | None:
    value = section.text("token", "a token", is_secret=True)
    if value is None:
        return None
    try:
        checked_token(value, "this")
    except TokenError as error:
        section.problem("token", str(error))
        return None
    section.warn("token", "all who can read this file can read it; keep it apart in a token_file")
    return Token(inline=value)
