"""Opening a room: which rooms there are, where their tokens are, and who else is at work there."""

from __future__ import annotations

import os
import secrets
import stat
import string
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flipbell import state
from flipbell.channels.token import checked_token, read_token
from flipbell.room.keys import Keys
from flipbell.room.store import Store

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flipbell.room.store import RoomRecord

_FILE = "messages.sqlite"
_LOCK = "room.lock"
_TOKEN_LENGTH = 40  # as HipChat's own; some clients insist on it
USUAL_ROOM = "ops"


class OpeningError(Exception):
    """The room cannot be opened; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Place:
    """An opened store, the tokens of its rooms, and the file that each token is in."""

    store: Store
    keys: Keys
    tokens: Mapping[RoomRecord, str]


def open_kept(directory: str, wanted: Mapping[str, str | None]) -> Place:
    """Open the rooms of a directory, and make those wanted that are not there yet.

    A room's token is read from the file that *wanted* names, else from the directory's own, where
    one is made if need be. Raises OpeningError, StateError, StoreError and TokenError.
    """
    state.prepare(directory)
    if state.try_lock(directory, _LOCK) is None:
        raise OpeningError(f"{directory}: another room is open there; name another with --state")
    os.close(state.open_private(directory, _FILE, os.O_RDWR))
    store = Store(f"{directory}/{_FILE}")
    for name in wanted:
        store.room(name)
    if not store.rooms():
        store.room(USUAL_ROOM)
    tokens = {}
    for room in store.rooms():
        file = wanted.get(room.name)
        tokens[room] = os.path.abspath(file) if file else _own_token(directory, room)
    return Place(store, _keys(tokens), tokens)


def open_in_memory(wanted: Mapping[str, str | None]) -> Place:
    """Open rooms that are gone when the program ends. Raises OpeningError and TokenError."""
    store = Store()
    tokens = {}
    for name, file in wanted.items():
        if file is None:
            raise OpeningError(f"--memory keeps no token: write --room {name}=TOKEN_FILE")
        tokens[store.room(name)] = os.path.abspath(file)
    if not tokens:
        raise OpeningError(f"--memory keeps no token: name a room, --room {USUAL_ROOM}=TOKEN_FILE")
    return Place(store, _keys(tokens), tokens)


def _keys(tokens: Mapping[RoomRecord, str]) -> Keys:
    keys = Keys()
    for room, file in tokens.items():
        if os.stat(file).st_mode & stat.S_IROTH:
            raise OpeningError(f"{file}: every user of this host can read it; chmod 600 it")
        keys.give(room, checked_token(read_token(file), file))
    return keys


def _own_token(directory: str, room: RoomRecord) -> str:
    """Return the file of a room's token in the directory, and make it where it is missing."""
    name = f"room-{room.id}.token"
    if not os.path.exists(f"{directory}/{name}"):
        with os.fdopen(state.open_private(directory, name, os.O_WRONLY), "w") as file:
            file.write(f"{new_token()}\n")
    return f"{directory}/{name}"


def new_token() -> str:
    """Return a token that cannot be guessed."""
    letters = string.ascii_letters + string.digits
    return "".join(secrets.choice(letters) for _ in range(_TOKEN_LENGTH))
