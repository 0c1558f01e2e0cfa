"""Channel types: how a room is configured and how a notification is delivered to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from flipbell.model import Outcome, Verdict

if TYPE_CHECKING:
    from flipbell._yaml import Section
    from flipbell.model import Channel, Notification


class Sender(Protocol):
    """Delivers to one channel; used by one thread at a time."""

    def send(self, notification: Notification) -> Outcome:
        """Deliver, or say why not. Never raises for what the network or the room does.

        ImportError and MemoryError may be raised before the request is begun, and only then: the
        notification is tried again as one that the room cannot have.
        """
        ...

    def ask(self) -> Outcome:
        """Ask the room whether it would take notifications, without sending one.

        A type that has no such harmless request leaves this method out. What may have arrived is
        then repeated after longer and longer.
        """
        ...


class ChannelType(Protocol):
    """A kind of room. The courier calls it; see `flipbell_channel_types`."""

    def read(self, section: Section) -> object:
        """Read the keys of this type into the channel's `settings`; add problems to the section."""
        ...

    def room(self, channel: Channel) -> str:
        """Name the room, so that channels which share it share its limits. No token in it."""
        ...

    def open(self, channel: Channel) -> Sender:
        """Return what delivers to the channel. Must not touch the network yet."""
        ...


def not_begun(error: Exception) -> Outcome:
    """Return the outcome of a request that failed before a room could have any of it."""
    return Outcome(Verdict.RETRY, f"the request could not be begun ({type(error).__name__})")
