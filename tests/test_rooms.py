"""The configuration as the courier has it: read again when it changes, even in one tick."""

from __future__ import annotations

from typing import TYPE_CHECKING

from conftest import until
from flipbell.channels.hipchat import HipChat
from flipbell.rooms import Rooms

if TYPE_CHECKING:
    from pathlib import Path

CHANNEL = "channels: {{ops: {{url: 'https://h', room: {room}, token_env: T}}}}"


def _rooms(directory: Path) -> Rooms:
    return Rooms(str(directory), {"hipchat": HipChat()})


def test_what_was_read_in_the_tick_it_was_written_in_is_read_once_more(tmp_path: Path) -> None:
    (tmp_path / "ops.yaml").write_text(CHANNEL.format(room=1))
    rooms = _rooms(tmp_path)
    assert rooms.refresh()

    until(rooms.refresh)  # nothing has changed, but a write in the same tick would look like that

    assert not rooms.refresh()


def test_no_write_is_missed_however_fast_it_follows(tmp_path: Path) -> None:
    file = tmp_path / "ops.yaml"
    file.write_text(CHANNEL.format(room=1))
    rooms = _rooms(tmp_path)
    for number in (2, 3, 4) * 10:  # always the same size, mostly in one tick
        rooms.refresh()
        file.write_text(CHANNEL.format(room=number))

    def room() -> str:
        rooms.refresh()
        return rooms.room(rooms.channels["ops"]) if rooms.channels else ""

    until(lambda: "/room/4/" in room())


def test_is_at_rest_a_moment_after_an_edit(tmp_path: Path) -> None:
    (tmp_path / "ops.yaml").write_text(CHANNEL.format(room=1))
    rooms = _rooms(tmp_path)
    rooms.refresh()

    assert not rooms.is_at_rest
    until(lambda: rooms.is_at_rest)


def test_a_directory_that_is_not_there_is_at_rest(tmp_path: Path) -> None:
    rooms = _rooms(tmp_path / "none")
    rooms.refresh()

    assert rooms.is_at_rest


def test_an_empty_moment_of_an_edit_does_not_cost_the_last_good_configuration(
    tmp_path: Path,
) -> None:
    file = tmp_path / "ops.yaml"
    file.write_text(CHANNEL.format(room=1))
    rooms = _rooms(tmp_path)
    rooms.refresh()

    file.write_text("")  # as an editor has it between truncating and writing
    rooms.refresh()
    assert rooms.channels == {}  # nobody is told while it is gone
    file.write_text("[")
    rooms.refresh()

    assert list(rooms.channels) == ["ops"]


def test_a_channel_that_was_removed_does_not_come_back_by_a_later_mistake(tmp_path: Path) -> None:
    file = tmp_path / "ops.yaml"
    file.write_text(CHANNEL.format(room=1))
    rooms = _rooms(tmp_path)
    rooms.refresh()
    file.write_text("")
    rooms.refresh()
    until(lambda: rooms.is_at_rest)

    file.write_text("[")
    rooms.refresh()

    assert rooms.channels == {}
