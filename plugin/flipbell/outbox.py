"""The outbox: how far each channel has come in the transitions, and what became of each message.

What a room was told, what is being sent, what waits, and what was given up.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flipbell import stored
from flipbell._database import Database, LedgerDamage
from flipbell.model import Stage, Status, Transition, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from flipbell.model import Outcome
    from flipbell.retry import Step

_LAST = (1 << 63) - 1
_LONGEST_WAIT = 3600.0  # seconds between two tries that count as trying: a clock may have jumped


class Late(enum.IntEnum):
    """Whether a message was given up before and is sent once more, and if the room may have it."""

    NO = 0
    UNHEARD = 1
    PERHAPS_HEARD = 2


_LATES = {late.value: late for late in Late}


@dataclass(frozen=True, slots=True)
class ChannelState:
    """How far a channel has come, and how its room has answered; times are epoch seconds.

    It is *doubtful* while the outcome of a request is unknown and the room was not seen to work
    since.
    """

    name: str
    cursor: int
    next_try: float
    failures: int
    paused: bool
    doubtful: bool
    last_error: str | None
    last_error_at: float | None
    last_success_at: float | None


@dataclass(frozen=True, slots=True)
class Delivery:
    """What was tried so far of a message.

    *unknown* counts the tries whose outcome is unknown, *tried_for* the seconds of trying;
    *digest* is the first transition of the digest that it is part of; a *late* one was given up,
    and is sent once more.
    """

    channel: str
    transition: int
    unknown: int
    tried_for: float
    digest: int | None
    late: Late
    is_sending: bool


_CHANNEL = (
    "name, cursor, next_try, failures, paused, doubtful, last_error, last_error_at, last_success_at"
)
_DELIVERY = "channel, transition, unknown, tried_for, digest, late, state = 'sending'"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that was given up: what it tells, to which channel, when it was tried, and why.

    Its *stage* is DEAD, or PERHAPS if the room may have it.
    """

    channel: str
    transition: Transition
    stage: Stage
    last_try: float
    error: str


class Outbox(Database):
    """What the channels have to say and have said."""

    def last_transition(self) -> int:
        """Return the newest transition's number, 0 if there is none."""
        return int(self._one("SELECT coalesce(max(id), 0) FROM transitions")[0])

    # Channels

    def channel(self, name: str) -> ChannelState | None:
        """Return a channel's state."""
        row = self._one(f"SELECT {_CHANNEL} FROM channels WHERE name = ?", [name])  # noqa: S608
        return None if row is None else _channel_state(row)

    def channels(self) -> list[ChannelState]:
        """Return every channel that was ever configured."""
        rows = self._db.execute(f"SELECT {_CHANNEL} FROM channels ORDER BY name")  # noqa: S608
        return [_channel_state(row) for row in rows]

    def unread(self) -> dict[str, int]:
        """Return the files that could not be read, each with the transition since when."""
        rows = self._db.execute("SELECT path, cursor FROM unread")
        return {stored.text(path): stored.whole(cursor) for path, cursor in rows}

    def set_unread(self, path: str, cursor: int) -> None:
        """Remember from where on the channels of an unreadable file have missed their turn."""
        self._db.execute("INSERT OR IGNORE INTO unread VALUES (?, ?)", (path, cursor))

    def clear_unread(self, path: str) -> None:
        """Forget a file that can be read again, or is gone."""
        self._db.execute("DELETE FROM unread WHERE path = ?", (path,))

    def forget_back_off(self) -> None:
        """Let every channel be tried now, unless its server asked to be left alone."""
        self._db.execute("UPDATE channels SET next_try = 0")

    def succeed(self, channel: str, now: float) -> None:
        """Write down that a channel's room has answered."""
        self._db.execute(
            "UPDATE channels SET next_try = 0, failures = 0, paused = 0, doubtful = 0,"
            " last_error = NULL, last_error_at = NULL, last_success_at = ? WHERE name = ?",
            (now, channel),
        )

    def fail(self, channel: str, error: str, step: Step, now: float) -> None:
        """Write down that a channel's room could not be told, and when to try again."""
        self._db.execute(
            "UPDATE channels SET next_try = ?, failures = failures + 1, paused = ?,"
            " doubtful = doubtful OR ?, last_error = ?, last_error_at = ? WHERE name = ?",
            (now + step.delay, step.paused, step.doubtful, _storable(error), now, channel),
        )

    def doubt(self, channel: str) -> None:
        """Write down that a channel's room may have got a message, or not."""
        self._db.execute("UPDATE channels SET doubtful = 1 WHERE name = ?", (channel,))

    def end_doubt(self, channel: str) -> None:
        """Write down that a channel's room works, so that what it may have got is repeated now."""
        self._db.execute(
            "UPDATE channels SET next_try = 0, paused = 0, doubtful = 0 WHERE name = ?", (channel,)
        )

    # The queue of a channel

    def head(self, channel: ChannelState) -> Transition | None:
        """Return the transition whose turn it is in a channel."""
        row = self._one(
            "SELECT * FROM transitions WHERE id > ? ORDER BY id LIMIT 1", [channel.cursor]
        )
        return None if row is None else transition_from(row)

    def queue(
        self, channel: ChannelState, up_to: int = _LAST, *, most: int = -1
    ) -> Iterator[Transition]:
        """Yield what a channel has yet to look at up to a transition, the oldest first.

        Of a long queue, no more than *most* are read.
        """
        rows = self._db.execute(
            "SELECT * FROM transitions WHERE id > ? AND id <= ? ORDER BY id LIMIT ?",
            (channel.cursor, up_to, most),
        )
        return map(transition_from, rows)

    def told(self, channel: str, transition: Transition) -> Status | None:
        """Return what a room was last told of a check in this incident."""
        row = self._one(
            "SELECT status FROM told WHERE channel = ? AND host = ? AND name = ?",
            (channel, transition.host, transition.check),
        )
        return None if row is None else stored.status(row[0])

    def set_told(self, channel: str, transition: Transition, told: Status | None) -> None:
        """Remember what a room was told of a transition's check in this incident."""
        key = (channel, transition.host, transition.check)
        if told is None:
            self._db.execute("DELETE FROM told WHERE channel = ? AND host = ? AND name = ?", key)
        else:
            self._db.execute("INSERT OR REPLACE INTO told VALUES (?, ?, ?, ?)", (*key, told.value))

    def move_on(self, channel: str, cursor: int) -> None:
        """Let a channel go on to what comes after a transition."""
        self._db.execute("UPDATE channels SET cursor = ? WHERE name = ?", (cursor, channel))

    # Deliveries

    def transition(self, number: int) -> Transition:
        """Return a transition that a delivery tells."""
        return transition_from(self._one("SELECT * FROM transitions WHERE id = ?", [number]))

    def delivery(self, channel: str, transition: int) -> Delivery | None:
        """Return what was tried so far of a message."""
        row = self._one(
            f"SELECT {_DELIVERY} FROM deliveries WHERE channel = ? AND transition = ?",  # noqa: S608
            (channel, transition),
        )
        return None if row is None else _delivery(row)

    def parts(self, delivery: Delivery) -> list[Delivery]:
        """Return the deliveries of one request: those of a digest, or the one."""
        if delivery.digest is None or delivery.late is not Late.NO:
            return [delivery]
        return self.in_digest(delivery.channel, delivery.digest)

    def in_digest(self, channel: str, digest: int) -> list[Delivery]:
        """Return the open parts of a digest, the oldest first."""
        rows = self._db.execute(
            f"SELECT {_DELIVERY} FROM deliveries INDEXED BY deliveries_by_digest"  # noqa: S608
            " WHERE channel = ? AND digest = ? AND state IN ('sending', 'waiting')"
            " ORDER BY transition",
            (channel, digest),
        )
        return [_delivery(row) for row in rows]

    def last_try(self, channel: ChannelState) -> float:
        """Return when the oldest message that a channel has yet to send was tried; 0: never."""
        row = self._one(
            "SELECT last_try FROM deliveries WHERE channel = ? AND transition > ?"
            " ORDER BY transition LIMIT 1",
            (channel.name, channel.cursor),
        )
        return 0.0 if row is None else stored.moment(row[0])

    def begin_try(
        self,
        channel: str,
        transition: int,
        *,
        notify: bool,
        reason: str,
        digest: int | None,
        now: float,
    ) -> None:
        """Mark a message as being sent, so that a crash in the middle is recognised."""
        self._db.execute(
            "INSERT INTO deliveries (channel, transition, state, notify, reason, tries, first_try,"
            " last_try, digest) VALUES (:channel, :transition, 'sending', :notify, :reason, 1,"
            " :now, :now, :digest)"
            " ON CONFLICT DO UPDATE SET state = 'sending', tries = tries + 1,"
            " tried_for = tried_for + max(0, min(:now - last_try, :longest)), last_try = :now,"
            " notify = :notify, reason = :reason, digest = :digest",
            {
                "channel": channel,
                "transition": transition,
                "notify": notify,
                "reason": reason,
                "now": now,
                "digest": digest,
                "longest": _LONGEST_WAIT,
            },
        )

    def in_doubt(self, channel: str) -> Delivery | None:
        """Return the message that was last sent to a channel with an unknown outcome.

        Of a digest, its first part stands for all.
        """
        row = self._one(
            f"SELECT {_DELIVERY} FROM deliveries INDEXED BY deliveries_unknown"  # noqa: S608
            " WHERE channel = ? AND state = 'waiting' AND unknown > 0"
            " ORDER BY last_try DESC, transition LIMIT 1",
            [channel],
        )
        return None if row is None else _delivery(row)

    def try_on(self, delivery: Delivery, now: float) -> None:
        """Write down that a message is still being tried, though nothing is sent of it now."""
        self._db.execute(
            "UPDATE deliveries SET tried_for = tried_for + max(0, min(? - last_try, ?)),"
            " last_try = ? WHERE channel = ? AND transition = ?",
            (now, _LONGEST_WAIT, now, delivery.channel, delivery.transition),
        )

    def end_try(
        self, delivery: Delivery, stage: Stage, outcome: Outcome, *, leaves_digest: bool = False
    ) -> None:
        """Write down how a try ended, and whether the change goes on alone."""
        is_unknown = outcome.verdict is Verdict.UNKNOWN
        self._db.execute(
            "UPDATE deliveries SET state = ?, error = ?, unknown = unknown + ?, digest = ?"
            " WHERE channel = ? AND transition = ?",
            (
                stage.value,
                _storable(outcome.reason) or None,
                is_unknown,
                None if leaves_digest else delivery.digest,
                delivery.channel,
                delivery.transition,
            ),
        )

    def give_up(self, delivery: Delivery, stage: Stage) -> None:
        """Write down that a message that waits is not sent again."""
        self._db.execute(
            "UPDATE deliveries SET state = ? WHERE channel = ? AND transition = ?",
            (stage.value, delivery.channel, delivery.transition),
        )

    def drop(self, channel: str, transition: int) -> None:
        """Write down that a message that was tried is no longer wanted."""
        self._db.execute(
            "UPDATE deliveries SET state = 'dropped', digest = NULL"
            " WHERE channel = ? AND transition = ? AND state = 'waiting'",
            (channel, transition),
        )

    def veto(self, channel: str, transition: int, reason: str, now: float) -> None:
        """Write down why an extension kept a room from hearing of something."""
        self._db.execute(
            "INSERT OR REPLACE INTO deliveries (channel, transition, state, notify, reason,"
            " first_try, last_try, error) VALUES (?, ?, 'vetoed', 0, '', ?, ?, ?)",
            (channel, transition, now, now, _storable(reason)),
        )

    def interrupted(self) -> list[Delivery]:
        """Return the messages in the middle of whose sending a courier died.

        Of a digest, its first part stands for all.
        """
        rows = self._db.execute(
            f"SELECT {_DELIVERY} FROM deliveries"  # noqa: S608
            " WHERE state = 'sending' AND (digest IS NULL OR late OR transition ="
            " (SELECT min(transition) FROM deliveries AS part WHERE part.state = 'sending'"
            " AND part.channel = deliveries.channel AND part.digest = deliveries.digest))"
        )
        return [_delivery(row) for row in rows]

    # Dead letters

    def revive(self, channel: str, transition: int) -> None:
        """Let a message that was given up be sent once more; that moves nothing else."""
        self._db.execute(
            "UPDATE deliveries SET late = CASE state WHEN 'dead' THEN ? ELSE ? END,"
            " state = 'waiting', tried_for = 0, unknown = 0, digest = NULL"
            " WHERE channel = ? AND transition = ? AND state IN ('dead', 'perhaps')",
            (Late.UNHEARD.value, Late.PERHAPS_HEARD.value, channel, transition),
        )

    def dismiss(self, channel: str, transition: int) -> None:
        """Let a message that was given up leave the list, as the operator knows of it."""
        self._db.execute(
            "UPDATE deliveries SET state = 'dismissed'"
            " WHERE channel = ? AND transition = ? AND state IN ('dead', 'perhaps')",
            (channel, transition),
        )

    def next_late(self, channel: str) -> Delivery | None:
        """Return the oldest dead letter of a channel that is to be sent once more."""
        row = self._one(
            f"SELECT {_DELIVERY} FROM deliveries INDEXED BY deliveries_late"  # noqa: S608
            " WHERE late AND channel = ? AND state = 'waiting' ORDER BY transition LIMIT 1",
            [channel],
        )
        return None if row is None else _delivery(row)

    def with_late_letters(self) -> set[str]:
        """Return the channels that have dead letters to send once more."""
        rows = self._db.execute(
            "SELECT DISTINCT channel FROM deliveries WHERE late AND state IN ('waiting', 'sending')"
        )
        return {stored.text(name) for (name,) in rows}


def _storable(text: str) -> str:
    """Return text without lone surrogates, which SQLite refuses; a server may send any."""
    return text.encode("utf-8", "replace").decode()


def transition_from(row: Iterable[Any]) -> Transition:
    """Return the transition that a row of its table holds. Raises LedgerDamage."""
    try:
        number, host, check, previous, status, output, occurred_at, since, kind = row
    except ValueError:
        raise LedgerDamage("its transitions have other columns") from None
    return Transition(
        id=number,
        host=stored.text(host),
        check=stored.text(check),
        previous=None if previous is None else stored.status(previous),
        status=stored.status(status),
        output=stored.text(output),
        occurred_at=stored.moment(occurred_at),
        previous_since=None if since is None else stored.moment(since),
        kind=stored.kind(kind),
    )


def _channel_state(row: tuple[Any, ...]) -> ChannelState:
    name, cursor, next_try, failures, paused, doubtful, error, error_at, success_at = row
    return ChannelState(
        name=stored.text(name),
        cursor=stored.whole(cursor),
        next_try=stored.number(next_try),
        failures=stored.whole(failures),
        paused=bool(stored.whole(paused)),
        doubtful=bool(stored.whole(doubtful)),
        last_error=None if error is None else stored.text(error),
        last_error_at=None if error_at is None else stored.moment(error_at),
        last_success_at=None if success_at is None else stored.moment(success_at),
    )


def _delivery(row: tuple[Any, ...]) -> Delivery:
    channel, transition, unknown, tried_for, digest, late, is_sending = row
    return Delivery(
        channel=stored.text(channel),
        transition=stored.whole(transition),
        unknown=stored.whole(unknown),
        tried_for=stored.number(tried_for),
        digest=None if digest is None else stored.whole(digest),
        late=_LATES.get(stored.whole(late), Late.NO),
        is_sending=bool(is_sending),
    )
