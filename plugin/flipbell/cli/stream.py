"""`flipbell stream`: JSON Lines on stdin, one JSON line back for each, once it is recorded."""

from __future__ import annotations

import json
import math
import os
import time
from typing import TYPE_CHECKING

from flipbell import places, recorder, relay
from flipbell.agents import FormatError, json_result
from flipbell.cli import add_command
from flipbell.memory import Memory

if TYPE_CHECKING:
    import argparse

    from flipbell.model import CheckResult

_BLOCK = 1 << 18
_LINE_LIMIT = 1 << 20
_LOOK = 1.0  # seconds between looks at what other processes recorded


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    add_command(
        commands,
        "stream",
        command,
        summary="record results from JSON lines on stdin, answering each",
        example="""echo '{"check": "disk", "status": "OK"}' | flipbell stream""",
    )


def command(options: argparse.Namespace) -> int:
    """Record every line until stdin ends."""
    stream = _Stream(places.find_state(options.state, os.environ), options.config)
    rest, is_too_long = b"", False
    while block := os.read(0, _BLOCK):
        if is_too_long:  # it was answered, up to its end
            _, newline, block = block.partition(b"\n")
            is_too_long = not newline
        whole, _, rest = (rest + block).rpartition(b"\n")
        stream.take(whole)
        if len(rest) > _LINE_LIMIT:
            stream.take(rest[:_LINE_LIMIT])  # no JSON any more: answered as the error it is
            rest, is_too_long = b"", True
    stream.take(rest)
    return 0


class _Stream:
    """Takes lines a block at a time: one block is made durable at once."""

    def __init__(self, directory: str, config: str | None) -> None:
        self._directory = directory
        self._config = config
        self._memory = Memory(directory)
        self._looked = time.monotonic()
        self._host = os.uname().nodename
        self._couriers: list[int] = []  # that were started here and have not ended
        self._is_delivered = not os.path.isdir(directory)  # or something may be left from before
        self._rouse()

    def take(self, block: bytes) -> None:
        """Record a block of lines and answer each."""
        self._look()
        changes: list[CheckResult] = []
        lines = block.decode("utf-8", "replace").split("\n")
        answers = [self._answer(line, changes) for line in lines if line and not line.isspace()]
        if changes:
            answers = self._record(changes, answers)
        if answers:
            relay.write(1, "".join(answers).encode())

    def _look(self) -> None:
        """Notice now and then what other processes recorded."""
        if time.monotonic() - self._looked < _LOOK:
            return
        self._looked = time.monotonic()
        self._reap()
        self._rouse()
        try:
            self._memory.look()
        except OSError:  # recording will say what is wrong
            self._memory.statuses.clear()

    def _answer(self, line: str, changes: list[CheckResult]) -> str:
        plain = json_result.glance(line)
        if plain is not None:
            item, status = plain
            host = item.get("host") or self._host
            if self._memory.knows(host, item["check"], status):
                return _said(item, "unchanged")
        return self._answer_closely(line, changes)

    def _answer_closely(self, line: str, changes: list[CheckResult]) -> str:
        item: object = None
        try:
            item = json_result.parse(line)
            result = json_result.result(item, math.nan, host=self._host)
        except FormatError as error:
            return _said(item, str(error), key="error")
        if self._memory.knows(result.host, result.check, result.status):
            return _said(item, "unchanged")
        self._memory.learn(result)
        changes.append(result)
        return _said(item, "recorded")

    def _record(self, changes: list[CheckResult], answers: list[str]) -> list[str]:
        """Make changes durable; return the answers, which are errors where that failed."""
        try:
            self._memory.record(changes)
        except OSError as error:
            for change in changes:
                self._memory.forget(change.host, change.check)
            said = [json.loads(answer) for answer in answers]
            return [
                _said(each, each.get("error", f"not recorded: {error}"), "error") for each in said
            ]
        self._reap()  # what ended before this was recorded has not delivered it
        self._is_delivered = False
        self._rouse()
        return answers

    def _rouse(self) -> None:
        if not self._is_delivered:
            started = recorder.rouse(self._directory, self._config)
            self._couriers += [started] if started else []

    def _reap(self) -> None:
        """Learn whether the last courier that was started here has left all delivered."""
        for courier in [*self._couriers]:
            try:
                ended, status = os.waitpid(courier, os.WNOHANG)
            except ChildProcessError:  # SIGCHLD is ignored here: how it ended is not to be known
                ended, status = courier, 1
            if ended:
                self._couriers.remove(courier)
                self._is_delivered = self._is_delivered or (not status and not self._couriers)


def _said(item: object, said: str, key: str = "result") -> str:
    """Return an answer: its line is as long as the id lets it be, and built by hand, for speed."""
    if isinstance(item, dict) and "id" in item:
        identity = item["id"]
        number = identity if type(identity) is int else json.dumps(identity)
        return f'{{"id": {number}, "{key}": {json.dumps(said)}}}\n'
    return f'{{"{key}": {json.dumps(said)}}}\n'
