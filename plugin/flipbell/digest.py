"""A digest: many changes in one message, where a room may not be told of them one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flipbell import message, routing
from flipbell.model import WORST_FIRST, Notification
from flipbell.zones import clock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from flipbell.model import Channel, Status, Transition
    from flipbell.routing import Decision

    Check = tuple[str, str]

_HEAD_ROOM = 1000  # UTF-16 units for the first line, mentions and marks
_OUTPUT_LIMIT = 100  # characters of each change's output
_SHORTEST_LINE = 30  # a time and a status
MOST_PARTS = message.LIMIT // _SHORTEST_LINE  # more changes never fit into one message


def wanted(
    queue: Iterable[Transition],
    channel: Channel,
    told: Callable[[Transition], Status | None],
    is_vetoed: Callable[[Transition], bool] = lambda _: False,
) -> Iterator[tuple[Transition, Decision]]:
    """Yield the changes in a queue that the room would be told, were each delivered in turn.

    The queue has to be whole: also what the room does not want decides what it wants next.
    """
    now_told: dict[Check, Status | None] = {}
    for transition in queue:
        check = (transition.host, transition.check)
        before = now_told[check] if check in now_told else told(transition)
        decision = routing.decide(transition, channel, before)
        is_sent = decision.send and not is_vetoed(transition)
        now_told[check] = routing.told_after(transition, before, delivered=is_sent)
        if is_sent:
            yield transition, decision


class Digest:
    """Collects changes for as long as they fit into one message."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._break = "<br>" if channel.format == "html" else "\n"
        self._lines: dict[Check, list[str]] = {}
        self._last: dict[Check, Status] = {}
        self._mentions: dict[str, None] = {}
        self._length = _HEAD_ROOM
        self.parts: list[tuple[Transition, Decision]] = []

    def add(self, transition: Transition, decision: Decision) -> bool:
        """Take a change in; return False, and leave it out, where it does not fit any more."""
        check = (transition.host, transition.check)
        lines = [self._line(transition)]
        if check not in self._lines:
            lines.insert(0, self._heading(transition))
        length = sum(message.length(line) + len(self._break) for line in lines)
        if self._length + length > message.LIMIT and self.parts:
            return False
        self._length += length
        self._lines.setdefault(check, []).extend(lines)
        self._last[check] = message.shown_as(transition)
        if not transition.is_forgotten:
            self._mentions[self._channel.mention.get(transition.status, "")] = None
        self.parts.append((transition, decision))
        return True

    def _heading(self, transition: Transition) -> str:
        name = message.name_of(transition)
        text = message.escape(name, self._channel)
        return f"<b>{text}</b>" if self._channel.format == "html" else text

    def _line(self, transition: Transition) -> str:
        output = message.first_lines(transition.output).partition("\n")[0]
        output = message.cut(output, _OUTPUT_LIMIT)
        time = clock(transition.occurred_at, self._channel.timezone)
        said = f"{time}  {transition.word}  {output}"
        return message.escape(said.rstrip(), self._channel)

    def notification(self, mark: str) -> Notification:
        """Render what was collected; it rings if any of its changes would have."""
        head = message.escape(f"{mark}{len(self.parts)} changes, told together:", self._channel)
        mentions = message.cut(" ".join(filter(None, self._mentions)), _HEAD_ROOM // 2)
        lines = [line for found in self._lines.values() for line in found]
        worst = min(self._last.values(), key=WORST_FIRST.index)
        return Notification(
            message=self._break.join([f"{mentions} {head}".lstrip(), *lines]),
            format=self._channel.format,
            color=self._channel.color[worst],
            notify=any(decision.notify for _, decision in self.parts),
            sender=self._channel.sender,
        )
