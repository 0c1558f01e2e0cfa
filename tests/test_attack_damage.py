"""Attack: a ledger that is damaged. What is recorded next is heard, and no command fails.

With `--long`, every byte of the header and of the first page, and 300 random damages.
"""

from __future__ import annotations

import os
import random
import shutil
import threading
from typing import TYPE_CHECKING

import pytest

from conftest import Site
from flipbell import cli, log, recorder, spool, state
from flipbell.courier import Courier
from flipbell.extensions import Extensions
from flipbell.rooms import Rooms
from hipchat_room import Answer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from hipchat_room import HipChatRoom, HipChatServer

    Damage = Callable[[Path], None]

PAGE = 4096
HEADER = 100
# Found to matter: page size, versions, format, encoding, application, and the tree of the schema.
SAMPLE = [16, 18, 19, 21, 31, 40, 47, 55, 59, 60, 63, 68, 71, 95, 100, 103, 105, 108, 112]
SAMPLE += [3000, 3500, 4000, 4090]
REPEAT = "(repeat"
LIMIT = 30.0  # seconds
PARTS = 20  # each of which ends within a minute and a half


class Damaged:
    """A state directory with a ledger that has seen a bit of everything, to be damaged and used."""

    def __init__(self, site: Site, room: HipChatRoom) -> None:
        self._site = site
        self._room = room
        self._template = site.base / "template"
        site.channel(room.url, per_minute=0)
        self._make_template()

    def _make_template(self) -> None:
        directory = str(self._template)
        state.prepare(directory)
        for number, codes in enumerate([[2], [1, 0, 2], [3], [0, 2, 0]]):
            for code in codes:
                _record(directory, f"disk-{number}", code, "DISK - free space: / 3326 MB (56%)")
        self._room.answers = [Answer(400)]
        self._courier(directory).run(stay=False)
        _record(directory, "new", 2, "recorded, and not taken yet")

    def _courier(self, directory: str) -> Courier:
        lock = state.try_lock(directory, state.COURIER_LOCK)
        assert lock is not None
        types = Extensions().channel_types()
        rooms = Rooms(str(self._site.config), types, log.warning)
        return Courier(directory, rooms, Extensions(), lock=lock)

    def judge(self, damage: Damage) -> bool:
        """Damage a copy, read it and deliver from it; return whether it was set aside."""
        target = self._site.state
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(mode=0o700)
        for name in ("ledger", "ledger-journal", "spool"):
            shutil.copy2(self._template / name, target / name)
        damage(target / "ledger")
        before = len(self._room.heard)
        self._read_all()
        courier = self._courier(str(target))
        timer = threading.Timer(LIMIT, courier.stop)
        timer.start()
        try:
            assert courier.run(stay=False), courier.complaint
        finally:
            timer.cancel()
            timer.join()
        self._read_all()
        messages = [str(heard.body["message"]) for heard in self._room.heard[before:]]
        aside = [name for name in os.listdir(target) if name.startswith("ledger.broken-")]
        aside = [name for name in aside if name.removeprefix("ledger.broken-").isdecimal()]
        told = [message for message in messages if "new on web-01" in message]
        # A ledger may turn out to be broken only when the answer is to be written down.
        assert told, messages
        assert all(message.startswith(REPEAT) for message in told[1:]), messages
        assert sum("has been reset" in message for message in messages) == len(aside) <= 1
        assert not [name for name in os.listdir(target) if name.startswith("trial-")]
        assert cli.main(["status", "--json"]) in (0, 1)
        return bool(aside)

    def _read_all(self) -> None:
        for command in (
            ["status"],
            ["status", "--format", "prometheus"],
            ["history", "--since", "1h", "--limit", "3"],
            ["history", "--json", "--channel", "ops"],
            ["dead", "list"],
            ["explain", "web-01", "disk-1", "OK"],
        ):
            cli.main(command)


def _record(directory: str, check: str, code: int, output: str) -> None:
    line = spool.encode(b"web-01", check.encode(), code, output.encode(), 1.7e9)
    recorder.append(directory, [line])


@pytest.fixture(scope="module")
def damaged(
    tmp_path_factory: pytest.TempPathFactory, hipchat_server: HipChatServer
) -> Iterator[Damaged]:
    site = Site(tmp_path_factory.mktemp("damage"))
    with pytest.MonkeyPatch.context() as patch:
        for name in ("FLIPBELL_STATE", "FLIPBELL_CONFIG"):
            patch.setenv(name, site.environ[name])
        yield Damaged(site, hipchat_server.room())


def _byte(offset: int, change: Callable[[int], int]) -> Damage:
    def damage(ledger: Path) -> None:
        content = bytearray(ledger.read_bytes())
        content[offset] = change(content[offset]) & 0xFF
        ledger.write_bytes(content)

    return damage


CHANGES: dict[str, Callable[[int], int]] = {
    "flipped": lambda value: value ^ 0xFF,
    "zero": lambda value: 0 if value else 1,
    "two": lambda value: 2 if value != 2 else 3,
    "high": lambda value: value | 0x80 if value < 0x80 else 0xF5,
    "one more": lambda value: value + 1,
}


def _cases(*, is_long: bool) -> list[tuple[int, str]]:
    if not is_long:
        return [(offset, "flipped") for offset in SAMPLE]
    cases = [(offset, name) for offset in range(HEADER) for name in CHANGES]
    return cases + [(offset, "flipped") for offset in range(HEADER, PAGE)]


@pytest.mark.parametrize("part", range(PARTS))
def test_a_damaged_byte_of_the_first_page(
    damaged: Damaged, figures: list[str], is_long: bool, part: int
) -> None:
    cases = _cases(is_long=is_long)[part::PARTS]
    resets = 0
    for offset, name in cases:
        try:
            resets += damaged.judge(_byte(offset, CHANGES[name]))
        except Exception as error:
            raise AssertionError(f"byte {offset} {name}") from error
    if is_long:
        figures.append(f"damaged bytes of the first page: {len(cases)}, {resets} led to a reset")


def _at_random(seed: int) -> Damage:
    chance = random.Random(seed)

    def damage(ledger: Path) -> None:
        content = bytearray(ledger.read_bytes())
        for _ in range(chance.choice([1, 1, 3, 20])):
            start = chance.randrange(len(content))
            length = chance.choice([1, 1, 8, 64, 512, PAGE])
            fresh = chance.choice([bytes(length), chance.randbytes(length), b"\xf5" * length])
            content[start : start + length] = fresh[: len(content) - start]
        if chance.random() < 0.1:
            del content[chance.randrange(1, len(content)) :]
        ledger.write_bytes(content)

    return damage


@pytest.mark.parametrize("part", range(10))
def test_random_damage(damaged: Damaged, figures: list[str], is_long: bool, part: int) -> None:
    seeds = range(part, 300 if is_long else 10, 10)
    resets = 0
    for seed in seeds:
        try:
            resets += damaged.judge(_at_random(seed))
        except Exception as error:
            raise AssertionError(f"seed {seed}") from error
    if is_long:
        figures.append(f"random damages: {len(seeds)}, {resets} led to a reset")


def test_a_spool_that_lost_its_name_tells_nothing_twice_without_a_word(
    site: Site, hipchat_room: HipChatRoom
) -> None:
    site.environ["FLIPBELL_COURIER"] = "off"
    site.channel(hipchat_room.url)
    for code in (2, 0):
        site.run("disk", code)
    site.deliver()
    spool_file = site.state / "spool"
    content = bytearray(spool_file.read_bytes())
    content[0] ^= 0xFF
    spool_file.write_bytes(content)
    site.run("load", 1)
    site.deliver()

    texts = [str(heard.body["message"]) for heard in hipchat_room.heard]
    assert sum("load on web-01" in text for text in texts) == 1
    assert [text.startswith(REPEAT) for text in texts if "disk" in text] == [
        False,
        False,
        True,
        True,
    ]
