"""The configuration is edited every few milliseconds, in all the ways people and tools do it."""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import threading
from typing import TYPE_CHECKING

import pytest

from conftest import FLIPBELL, Process, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from typing_extensions import Self

    from conftest import Site
    from hipchat_room import HipChatRoom

COLORS = ["red", "purple", "yellow"]
HOSTS = ["web-1", "web-2", "db-1", "db-2"]
STATUSES = ["CRITICAL", "OK", "WARNING", "UNKNOWN", "OK"]
FLIPS = 12  # rounds of them for each host


class Editor:
    """Writes the channels `web` and `db`, never the same way twice in a row."""

    def __init__(self, site: Site, url: str) -> None:
        self._directory = site.config
        self._token = str(site.token)
        self._url = url
        self._colors = itertools.cycle(COLORS)
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._edit)
        self.edits = 0

    def __enter__(self) -> Self:
        for name in ("web", "db"):
            self._file(name).write_text(self._text(name))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _edit(self) -> None:
        for step in itertools.cycle([*self._steps()]):
            if self._is_over.wait(0.003):
                break
            step()
            self.edits += 1
        for name in ("both", "extra"):
            self._file(name).unlink(missing_ok=True)
        for name in ("web", "db"):
            self._file(name).write_text(self._text(name))

    def _steps(self) -> Iterator[Callable[[], object]]:
        web, db, both, extra = (self._file(name) for name in ("web", "db", "both", "extra"))
        yield lambda: self._replace(web, self._text("web"))
        yield lambda: db.write_text(self._text("db"))  # in place: empty for a moment
        yield lambda: web.write_text("channels: [")  # a broken edit
        yield lambda: web.write_text(self._text("web").replace("critical", "critcal"))
        yield lambda: self._replace(web, self._text("web"))
        yield db.unlink
        yield lambda: db.write_text(self._text("db"))
        yield lambda: extra.write_text(self._text("extra"))
        yield lambda: both.write_text(self._text("web", "db"))  # each name twice
        yield web.unlink
        yield db.unlink
        yield lambda: self._replace(both, self._text("db", "web"))
        yield extra.unlink
        yield both.unlink  # no channel at all
        yield lambda: web.write_text(self._text("web"))
        yield lambda: self._replace(db, self._text("db"))

    def _file(self, name: str) -> Path:
        return self._directory / f"{name}.yaml"

    def _replace(self, file: Path, text: str) -> None:
        new = file.with_suffix(".new")
        new.write_text(text)
        os.replace(new, file)

    def _text(self, *names: str) -> str:
        channels = {
            name: {
                "url": self._url,
                "room": name,
                "token_file": self._token,
                "match": [{"host": f"{name}-*"}],
                "color": {"critical": next(self._colors)},
                "per_minute": 0,
            }
            for name in names
        }
        return json.dumps({"channels": channels})


def _lines() -> bytes:
    results = [
        {"host": host, "check": "disk", "status": status, "output": f"{number}"}
        for number, status in enumerate(STATUSES * FLIPS)
        for host in HOSTS
    ]
    return "".join(f"{json.dumps(result)}\n" for result in results).encode()


@pytest.mark.parametrize("is_service", [False, True], ids=["short-lived couriers", "a service"])
def test_no_transition_is_lost_or_misrouted(
    site: Site, hipchat_room: HipChatRoom, *, is_service: bool
) -> None:
    with Editor(site, hipchat_room.url) as editor:
        site.run("disk", 0, host="web-1")  # the channels are known from here on
        site.deliver()
        if is_service:
            command = [FLIPBELL, "courier"]
            with Process(command, env=site.environ, stderr=subprocess.DEVNULL) as service:
                site.flipbell("stream", stdin=_lines())
                until(lambda: len(hipchat_room.heard) > 200, timeout=60)
                service.terminate()
                assert service.wait(10) == 0
        else:
            site.flipbell("stream", stdin=_lines())
            until(lambda: len(hipchat_room.heard) > 200, timeout=60)
        edits = editor.edits
    site.deliver()

    heard: dict[str, list[int]] = {host: [] for host in HOSTS}
    for each in hipchat_room.heard:
        found = re.search(r" disk on ((\w+)-\d).*<br>(\d+)$", str(each.body["message"]))
        assert found, each.body
        assert each.room == found[2]
        heard[found[1]].append(int(found[3]))
    assert heard == {host: [*range(len(STATUSES) * FLIPS)] for host in HOSTS}
    assert edits > 50
