"""The rooms at work: the configuration as last read, and what delivers to each channel.

It is read again whenever a file changes. A channel that worked goes on as it was while its file
is being edited and says nothing valid.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flipbell import config
from flipbell.succession import Names, Succession

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from flipbell._yaml import Problem
    from flipbell.channels import ChannelType, Sender
    from flipbell.ledger import Ledger
    from flipbell.model import Channel


_TICK = 0.02  # seconds; within the kernel's own, two writes can look like one
_EDIT = 0.3  # seconds in which a file that is being written may be half there


class Rooms:
    """The channels to deliver to."""

    def __init__(
        self,
        directory: str,
        types: Mapping[str, ChannelType],
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.directory = directory
        self._types = types
        self._log = say
        self._signature: config.Signature | None = None
        self._was_fresh = False  # read in the tick in which it was written: perhaps half of it
        self._config = config.Config(directory)
        self._homes: dict[str, str] = {}  # the file in which each channel was last seen
        self._senders: dict[str, Sender] = {}
        self._names: dict[str, str] = {}
        self._failed: set[str] = set()  # channels whose type failed
        self._said: set[Problem] = set()
        # Channels that went with the last edit: a file that is being written is empty for a moment.
        self._vanished: dict[str, Channel] = {}
        self.channels: dict[str, Channel] = {}
        # New channels that may be others under a new name, and whether that will be known soon.
        self.held: frozenset[str] = frozenset()
        self.is_deciding = False

    def refresh(self) -> bool:
        """Read the configuration if it has changed; return whether it was read."""
        seen = config.signature(self.directory)
        is_same = seen == self._signature and self.directory not in self._config.unreadable
        if is_same and not (self._was_fresh and config.age(seen) >= _TICK):
            return False
        if self.is_at_rest:
            self._vanished.clear()
        self._was_fresh = config.age(seen) < _TICK
        fresh = config.load(self.directory, self._types)
        before = {**self._vanished, **self.channels}
        self._config, self._signature = fresh, seen
        self._failed.clear()
        kept = {name: channel for name, channel in before.items() if self.may_return(name)}
        self.channels = {**kept, **fresh.channels}
        gone = set(before) - set(self.channels)
        self._vanished = {name: before[name] for name in gone}
        for path, names in fresh.files.items():
            self._homes.update(dict.fromkeys(names, path))
        for name in set(before):
            if before[name] != self.channels.get(name):
                self.drop_sender(name)
        self._name_rooms()
        self._log_new(fresh.problems)
        return True

    @property
    def is_at_rest(self) -> bool:
        """Whether the configuration seems to be at rest, with no writer at work."""
        return not 0 <= config.age(self._signature or ()) < _EDIT

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What is wrong with the configuration, as last read."""
        return self._config.problems

    def _name_rooms(self) -> None:
        """Ask each channel's type for its room; a type that fails takes only its channels down."""
        self._names = {}
        for name, channel in [*self.channels.items()]:
            try:
                self._names[name] = str(self._types[channel.type].room(channel))
                self._senders.setdefault(name, self._types[channel.type].open(channel))
            except Exception as error:  # noqa: BLE001  an extension's mistake stays its own
                del self.channels[name]
                self._failed.add(name)
                self._log(f"channel {name}: type {channel.type} failed: {type(error).__name__}")

    def drop_senders(self) -> None:
        """Forget all connections, which a forked process must not share."""
        self._senders.clear()

    def drop_sender(self, name: str) -> None:
        """Have a channel delivered to by a new sender from now on."""
        self._senders.pop(name, None)

    def concerns(self, name: str) -> bool:
        """Return whether what waits for a channel is to be delivered, now or once it is mended."""
        return name in self.channels or self.may_return(name)

    def may_return(self, name: str) -> bool:
        """Return whether a channel is out of sight only because a file is broken."""
        read = self._config
        if name in read.broken or name in self._failed or self.directory in read.unreadable:
            return True
        home = self._homes.get(name)
        return home in read.unreadable if home else bool(read.unreadable)

    def _log_new(self, problems: tuple[Problem, ...]) -> None:
        for problem in problems:
            if problem not in self._said:
                self._log(f"configuration: {problem}")
        self._said = set(problems)

    def register(self, ledger: Ledger, busy: Collection[str], now: float) -> None:
        """Give each channel its cursor before anything new is taken.

        A new channel starts at what happens next; one in a file that could not be read until now,
        at what happened since then; one that was renamed goes on where it was. A *busy* channel
        has a request under way.
        """
        last = ledger.last_transition()
        for path in self._config.unreadable:
            ledger.set_unread(path, last)
        unread = ledger.unread()
        everywhere = unread.get(self.directory, last)
        for path, names in self._config.files.items():
            for name in names:
                ledger.enroll(name, min(unread.get(path, last), everywhere))
        for path in unread:
            if path not in self._config.unreadable:
                ledger.clear_unread(path)
        decided = Succession(ledger, self._log, now).settle(self.names(), busy)
        self.held, self.is_deciding = frozenset(decided.held), not decided.is_final

    def names(self) -> Names:
        """Return the channels that the files name, with the type and room of those that work."""
        identities = {
            name: (self.channels[name].type, self._names[name]) if name in self._names else None
            for names in self._config.files.values()
            for name in names
        }
        return Names(identities, self.is_at_rest, not self._config.unreadable)

    def room(self, channel: Channel) -> str:
        """Return the name of the room that a channel delivers to."""
        return self._names[channel.name]

    def sender(self, channel: Channel) -> Sender:
        """Return what delivers to a channel."""
        if channel.name not in self._senders:
            self._senders[channel.name] = self._types[channel.type].open(channel)
        return self._senders[channel.name]
