"""`flipbell room`: a local HipChat to post to, with a page on which to watch and hear it."""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import sys
import threading
import time
from typing import TYPE_CHECKING

from flipbell import places
from flipbell.channels.token import TokenError
from flipbell.cli import CommandError, add_command, whole_number
from flipbell.log import escaped
from flipbell.wording import lowered

if TYPE_CHECKING:
    import argparse

    from flipbell.room.opening import Place
    from flipbell.room.server import RoomServer

_PORT = 8181
_DAY = 86400
_LONGEST_KEPT = 36_500  # days
_LOOK = 1  # seconds; a signal just before a longer wait would not end it
_FORGET_EVERY = 3600  # seconds
_NAME_LIMIT = 100


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "room",
        command,
        summary="be a HipChat room on this machine, and show it on a page",
        example="flipbell room --room ops --room 'web team'=/etc/flipbell/web.token",
        places="",
    )
    parser.add_argument(
        "--room",
        metavar="NAME[=TOKEN_FILE]",
        action="append",
        default=[],
        help="a room, made where there is none, and the file of its token (default: one is made)",
    )
    parser.add_argument(
        "--port", type=whole_number(0, 65535), default=_PORT, help=f"0 for a free one ({_PORT})"
    )
    parser.add_argument("--host", default="127.0.0.1", help="where to listen (this machine only)")
    parser.add_argument(
        "--name",
        action="append",
        default=[],
        help="a further host name that it answers to, as behind a proxy",
    )
    parser.add_argument("--label", default="", help="the tokens' label, shown before each sender")
    kept = parser.add_mutually_exclusive_group()
    kept.add_argument("--state", metavar="DIR", help="where messages and tokens are kept")
    kept.add_argument("--memory", action="store_true", help="keep nothing, as in tests")
    days = whole_number(0, _LONGEST_KEPT)
    parser.add_argument("--keep", metavar="DAYS", type=days, default=90, help="0 for ever (90)")
    parser.add_argument("--no-limits", action="store_true", help="never answer 429")
    parser.add_argument("--cert", metavar="FILE", help="a certificate, to be reached with https")
    parser.add_argument("--key", metavar="FILE", help="its private key")


def require_extra() -> None:
    """Raise CommandError if the extra is not installed."""
    try:
        import cheroot
        import jsonschema
        import nh3
        import werkzeug
    except ModuleNotFoundError as error:
        raise CommandError(
            f"the room needs {error.name}, which is not installed; in a checkout of flipbell: "
            f"{shlex.quote(sys.executable)} -m pip install '.[room]'"
        ) from None
    del cheroot, jsonschema, nh3, werkzeug


def command(options: argparse.Namespace) -> int:
    """Be the room until stopped."""
    require_extra()
    _check_certificate(options.cert, options.key)
    place = _open(options)
    server = _server(options, place)
    over = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: over.set())
    server.start()
    _tell(options, place, server)
    forgotten = time.monotonic()
    while not over.wait(_LOOK):
        if time.monotonic() - forgotten > _FORGET_EVERY:
            _forget(options, place)
            forgotten = time.monotonic()
    server.stop()
    return 0


def _check_certificate(cert: str | None, key: str | None) -> None:
    if bool(cert) != bool(key):
        raise CommandError("--cert and --key: give both, or neither")
    if cert:
        import ssl

        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key)
        except OSError as error:
            raise CommandError(f"--cert {cert} and --key {key}: {error.strerror}") from None


def _open(options: argparse.Namespace) -> Place:
    from flipbell.room import opening, store

    wanted = dict(map(_named, options.room))
    try:
        if options.memory:
            place = opening.open_in_memory(wanted)
        else:
            place = opening.open_kept(directory(options.state), wanted)
    except (opening.OpeningError, store.StoreError, TokenError) as error:
        raise CommandError(str(error)) from None
    _forget(options, place)
    return place


def _named(text: str) -> tuple[str, str | None]:
    name, equals, file = text.partition("=")
    if not name.strip() or len(name) > _NAME_LIMIT or not name.isprintable():
        raise CommandError(f"--room: expected NAME or NAME=TOKEN_FILE, got {escaped(text[:80])!r}")
    return name, file if equals else None


def directory(said: str | None) -> str:
    """Return where the room keeps its messages: beside flipbell's state, never in it."""
    if said:
        return os.path.abspath(said)
    elsewhere = {name: os.environ[name] for name in os.environ if name != "FLIPBELL_STATE"}
    return f"{places.find_state(None, elsewhere)}-room"


def _forget(options: argparse.Namespace, place: Place) -> None:
    if options.keep > 0:
        place.store.forget(time.time() - options.keep * _DAY)


def _server(options: argparse.Namespace, place: Place) -> RoomServer:
    from flipbell.room.app import App, is_loopback
    from flipbell.room.limits import Limits
    from flipbell.room.server import RoomServer

    names = [options.host, *options.name] if is_loopback(options.host) else options.name
    limits = Limits(is_off=options.no_limits)
    app = App(place.store, place.keys, limits, label=options.label, names=names)
    tls = (options.cert, options.key) if options.cert else None
    try:
        return RoomServer(app, place.store, (options.host, options.port), tls)
    except (OSError, socket.gaierror) as error:
        host = f"[{options.host}]" if ":" in options.host else options.host
        raise CommandError(
            f"cannot listen on {host}:{options.port}: {_cause(error)}; "
            "name another --port, or 0 for a free one"
        ) from None


def _cause(error: OSError) -> str:
    """Return the system's words for an error, of which cheroot keeps the text alone."""
    text = re.search(r"\[Errno -?\d+\] ([^)]*)", str(error))
    return lowered(text[1] if text else error.strerror or str(error))


def _tell(options: argparse.Namespace, place: Place, server: RoomServer) -> None:
    from flipbell.room.app import is_loopback

    print(f"The room is open at {server.url}/")
    if server.is_everywhere:
        print("It listens on all addresses: elsewhere, use this machine's name in that URL.")
    for room, file in place.tokens.items():
        print(f"  room {room.id}, {escaped(room.name)}: its token is in {escaped(file)}")
        told = f"--url {server.url} --room {room.id} --token-from {shlex.quote(file)}"
        print(f"    a channel for it: flipbell init {escaped(told)}")
    if is_loopback(options.host):
        print("Every user of this machine can read it on the page, and no one from elsewhere.")
    else:
        reached = "this machine" if server.is_everywhere else options.host
        print(f"ANYONE who can reach {reached} can read it on the page.")
        if not options.cert:
            print("Without --cert, tokens and messages can be read on their way.")
    print("To write, a client needs the room's token.")
    if options.memory:
        print("Nothing is kept when this ends. Ctrl-C ends it.", flush=True)
    else:
        kept = f"for {options.keep} days" if options.keep > 0 else "for ever"
        where = escaped(directory(options.state))
        print(f"Messages are kept in {where} {kept}. Ctrl-C ends it.", flush=True)
