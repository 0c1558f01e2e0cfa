"""Times in messages: in the channel's time zone, with an offset that cannot be misread."""

from __future__ import annotations

import json
import sys
import time
import zoneinfo
from typing import TYPE_CHECKING

import pytest

from flipbell import zones
from flipbell.zones import ZoneError, clock

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Site
    from hipchat_room import HipChatRoom

SUMMER = 1_785_000_000.0  # 2026-07-25 17:20:00 UTC
WINTER = 1_795_400_000.0  # 2026-11-23 02:13:20 UTC


@pytest.fixture
def new_york(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A host whose own time zone is that of New York."""
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("zone", "summer", "winter"),
    [
        ("UTC", "2026-07-25 17:20:00 UTC", "2026-11-23 02:13:20 UTC"),
        ("Asia/Tokyo", "2026-07-26 02:20:00 UTC+09:00", "2026-11-23 11:13:20 UTC+09:00"),
        ("Europe/London", "2026-07-25 18:20:00 UTC+01:00", "2026-11-23 02:13:20 UTC"),
        ("Asia/Kolkata", "2026-07-25 22:50:00 UTC+05:30", "2026-11-23 07:43:20 UTC+05:30"),
        ("America/St_Johns", "2026-07-25 14:50:00 UTC-02:30", "2026-11-22 22:43:20 UTC-03:30"),
    ],
)
def test_a_time_has_the_offset_of_its_day(zone: str, summer: str, winter: str) -> None:
    assert (clock(SUMMER, zone), clock(WINTER, zone)) == (summer, winter)


@pytest.mark.usefixtures("new_york")
def test_local_is_the_time_of_the_host() -> None:
    assert clock(SUMMER, "local") == "2026-07-25 13:20:00 UTC-04:00"
    assert clock(WINTER, "local") == "2026-11-22 21:13:20 UTC-05:00"


@pytest.mark.usefixtures("new_york")
def test_without_a_time_zone_it_is_utc_wherever_the_host_is() -> None:
    assert clock(WINTER) == "2026-11-23 02:13:20 UTC"


@pytest.mark.parametrize(
    "name", ["America", "../etc/passwd", "/etc/localtime", "utc", "", "Nosuch", "A" * 999, "UTC\0"]
)
def test_what_is_no_time_zone_is_refused(name: str) -> None:
    with pytest.raises(ZoneError, match=r"^expected a time zone such as Europe/Berlin"):
        zones.find(name)


def test_a_host_without_time_zone_data_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The package tzdata of PyPI stands in for a host's own data.
    for name in [name for name in sys.modules if name.startswith("tzdata.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tzdata", None)
    zoneinfo.reset_tzpath(to=[])
    zoneinfo.ZoneInfo.clear_cache()
    try:
        with pytest.raises(ZoneError, match="no time zone data: add its package tzdata"):
            zones.find("Africa/Abidjan")
        assert clock(WINTER, "UTC") == "2026-11-23 02:13:20 UTC"
        assert "UTC" in clock(WINTER, "local")
    finally:
        zoneinfo.reset_tzpath()


@pytest.mark.parametrize("place", ["defaults", "channel"])
def test_a_room_reads_times_in_its_channels_time_zone(
    site: Site, hipchat_room: HipChatRoom, place: str
) -> None:
    site.environ["FLIPBELL_COURIER"] = "off"
    site.channel(hipchat_room.url, **{"timezone": "Asia/Tokyo"} if place == "channel" else {})
    if place == "defaults":
        (site.config / "defaults.yaml").write_text("defaults: {timezone: Asia/Tokyo}")
    late = {"check": "disk", "status": 2, "occurred_at": "2026-11-23T02:00:00Z"}
    site.flipbell("report", "--host", "web-01", stdin=json.dumps(late))

    site.deliver()

    assert "(at 2026-11-23 11:00:00 UTC+09:00)" in str(hipchat_room.heard[0].body["message"])
