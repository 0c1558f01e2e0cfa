"""How HipChat says no: a status, and a JSON body that names what is wrong.

The bodies are those that HipChat's users have quoted: {"error": {"code", "type", "message"}}, and
for a field also its name, the rule that it breaks, and its value.
"""

from __future__ import annotations

import math
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_SHOWN = 200  # characters of a value that are given back
_MORE = "…"


class RefusalError(Exception):
    """A request that the room does not carry out, with what it answers."""

    def __init__(
        self,
        status: int,
        message: str,
        details: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.details = dict(details or {})
        self.headers = dict(headers or {})

    @property
    def body(self) -> dict[str, Any]:
        """The JSON that tells it."""
        kind = HTTPStatus(self.status).phrase
        error = {"code": self.status, "type": kind, "message": self.message}
        return {"error": {**error, **self.details}}


def wrong_field(
    field: str, rule: str, message: str, value: object, expected: object = None
) -> RefusalError:
    """Return the 400 for a field that breaks a rule."""
    details: dict[str, Any] = {"field": field, "validation": rule, "value": shown(value)}
    if expected is not None:
        details["expected_type" if rule == "type" else "expected"] = expected
    return RefusalError(400, message, details)


def shown(value: object) -> object:
    """Return a value that is short enough to be given back."""
    if isinstance(value, str) and len(value) > _SHOWN:
        return value[:_SHOWN] + _MORE
    if isinstance(value, float) and not math.isfinite(value):
        return quoted(value)
    return value if isinstance(value, (str, int, float, bool, type(None))) else quoted(value)


def quoted(value: object) -> str:
    """Return a value as HipChat, a Python 2 program, quoted it: u'text'."""
    said = f"u{value!r}" if isinstance(value, str) else repr(value)
    return said if len(said) <= _SHOWN else said[:_SHOWN] + _MORE
