"""Time zones: which one the times in a channel's messages are in, and how they are written."""

from __future__ import annotations

import functools
import re
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from flipbell.wording import shown, suggestion

if TYPE_CHECKING:
    from datetime import tzinfo

UTC = "UTC"
LOCAL = "local"
_NAME = re.compile(r"[A-Z][A-Za-z0-9_+-]*(?:/[A-Za-z0-9_+-]+)*")
_EXPECTED = "expected a time zone such as Europe/Berlin, UTC or local"


class ZoneError(ValueError):
    """A time zone is not known on this host; the message says what to write instead."""


@functools.cache
def find(name: str) -> tzinfo | None:
    """Return a time zone by its IANA name; None for `local`, the host's own.

    Raises ZoneError. A zone that was found once stays known, even if its file is removed.
    """
    if name == UTC:
        return timezone.utc
    if name == LOCAL:
        return None
    import zoneinfo

    if _NAME.fullmatch(name):
        try:
            return zoneinfo.ZoneInfo(name)
        except (zoneinfo.ZoneInfoNotFoundError, OSError, ValueError):
            pass
    known = zoneinfo.available_timezones()
    if not known:
        raise ZoneError(f"{_EXPECTED}; this host has no time zone data: add its package tzdata")
    raise ZoneError(f"{_EXPECTED}, got {_shown(name)}{suggestion(name, sorted({*known, LOCAL}))}")


def _shown(name: str) -> str:
    """Return a name in quotes; of one that may be a token in the wrong place, only its length."""
    is_zone_like = "/" in name and all(
        re.fullmatch(r"[A-Za-z_.-]{1,20}", each) for each in name.split("/")
    )
    return repr(name) if is_zone_like else shown(name)


def clock(epoch: float, zone: str = UTC) -> str:
    """Return a time (seconds since the epoch) as people read it, with its offset from UTC.

    The offset is a number because the zones' abbreviations are not unique: CST has three meanings.
    """
    moment = datetime.fromtimestamp(epoch, timezone.utc).astimezone(find(zone))
    label = timezone(moment.utcoffset() or timezone.utc.utcoffset(None)).tzname(None)
    return f"{moment:%Y-%m-%d %H:%M:%S} {label}"
