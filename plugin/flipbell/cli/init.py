"""`flipbell init`: the first set-up, with owners and modes that the agent's user can use."""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import pwd
import re
import stat
import tempfile
import warnings
from dataclasses import replace
from typing import TYPE_CHECKING

from flipbell import identity, places
from flipbell.channels.token import TokenError, checked_token, read_token
from flipbell.cli import CommandError, add_command, service
from flipbell.cli.shipped import shipped
from flipbell.config import load
from flipbell.extensions import Extensions
from flipbell.wording import is_token_like, may_be_token, shown, user_name

if TYPE_CHECKING:
    import argparse
    from contextlib import AbstractContextManager

_PASSAGE = 0o755
_TEMPLATE = """\
# yaml-language-server: $schema={schema}
# A channel of flipbell. After an edit: flipbell check-config
channels:
  {name}:
    url: {url}
    room: {room}
    token_file: {token}
    notify:            # which statuses ring; all are sent
      ok: false
      warning: false
      critical: true
      unknown: true
"""


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "init",
        command,
        summary="make a first channel and the directories that the agent's user needs",
        example="flipbell init --user nagios --url https://hipchat.example.com --room 4242",
    )
    parser.add_argument("--user", help="the user that the agent runs as (default: this one)")
    parser.add_argument("--url", required=True, help="your HipChat server")
    parser.add_argument("--room", required=True, help="the Room API ID, or the room's name")
    parser.add_argument("--channel", metavar="NAME", default="ops", help="its name (default: ops)")
    parser.add_argument("--token-from", metavar="FILE", help="read the token there (default: ask)")
    parser.set_defaults(as_owner=False)
    service.add_to(parser)


def command(options: argparse.Namespace) -> int:
    """Set up; never overwrite anything."""
    if is_token_like(options.channel):
        raise CommandError("--channel: this looks like a token; use --token-from FILE for that")
    owner = _owner(options.user)
    config = places.said_config(options.config, os.environ) or places.own_config(os.environ)
    directory = places.find_state(options.state, os.environ)
    channel = os.path.join(config, f"{options.channel}.yaml")
    token = os.path.join(os.path.dirname(config), f"{options.channel}.token")
    for path in (channel, token):
        if os.path.lexists(path):
            raise CommandError(
                f"{path} exists; nothing was written; for a further channel, give --channel NAME"
            )
    content = _channel_file(options, token, channel)
    for place in (config, os.path.dirname(directory)):
        _refuse_unreachable(place, owner)
    _refuse_unusable(directory, owner)
    units = service.plan(options.service, user=owner.pw_name, config=config, state=directory)
    secret = _secret(options.token_from)
    with _rights_for(config, owner):
        _directory(config, owner, 0o755)
    with _rights_for(token, owner):
        _file(token, f"{secret}\n", owner, 0o600)
    with _rights_for(channel, owner):
        _file(channel, content, owner, 0o644)
    with _rights_for(directory, owner):
        _directory(directory, owner, 0o700)
    service.enable(units)
    print(f"next: flipbell check-config --online --config {config}")
    return 0


def _channel_file(options: argparse.Namespace, token: str, path: str) -> str:
    """Return the channel's file. Raises CommandError where it would have a problem."""
    content = _TEMPLATE.format(
        schema=shipped("conf.d/schema.json"),
        name=_scalar(options.channel),
        url=_scalar(options.url),
        room=_scalar(options.room),
        token=_scalar(token),
    )
    with tempfile.TemporaryDirectory() as directory:
        with open(f"{directory}/channel.yaml", "w", encoding="utf-8") as file:
            file.write(content)
        errors = load(directory, Extensions.load().channel_types()).errors
    if options.channel.startswith(".") or options.channel != options.channel.strip():
        raise CommandError("--channel: expected a name that begins with no dot and no space")
    if errors:
        said = "\n".join(str(replace(error, file=path)) for error in errors)
        raise CommandError(f"nothing was written, for this would be wrong:\n{said}")
    return content


def _scalar(text: str) -> str:
    """Return a text as YAML, in quotes unless it is sure to be read as it is."""
    is_plain = re.fullmatch(r"https?://[\w./:-]+|/[\w./ -]+\w|\d{1,9}|[a-z]{3,}", text)
    is_word = text in ("true", "false", "null", "yes", "off")
    is_octal = text.startswith("0")
    return text if is_plain and not is_word and not is_octal else json.dumps(text)


def _owner(user: str | None) -> pwd.struct_passwd:
    try:
        found = pwd.getpwuid(os.geteuid()) if user is None else pwd.getpwnam(user)
    except KeyError:
        name = f"{user_name()} has no name" if user is None else f"{shown(user)}: no such user"
        raise CommandError(f"--user: {name}") from None
    if found.pw_uid != os.geteuid() and os.geteuid() != 0:
        raise CommandError(f"--user {user}: only root can set up for another user")
    return found


def _secret(file: str | None) -> str:
    if file is not None and not _is_path(file):
        raise CommandError(f"--token-from: expected a file that holds the token, got {shown(file)}")
    try:
        secret = _asked() if file is None else read_token(file)
        return checked_token(secret, "the token")
    except TokenError as error:
        raise CommandError(str(error)) from None


def _is_path(text: str) -> bool:
    """Return whether a text is a path, and not a token in the place of one."""
    if os.path.lexists(text):
        return True
    is_plain = text.startswith(("/", "./", "../")) or not may_be_token(text)
    return is_plain and not any(map(is_token_like, text.split("/")))


def _asked() -> str:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", getpass.GetPassWarning)
            return getpass.getpass("Room Notification Token: ")
    except (EOFError, getpass.GetPassWarning):
        raise CommandError("no terminal to ask for the token; use --token-from FILE") from None


def _rights_for(path: str, owner: pwd.struct_passwd) -> AbstractContextManager[None]:
    """Let root make nothing with root's rights if another user decides what a path leads to.

    Raises CommandError if that is neither root nor the agent's user.
    """
    user = places.keeper(path) if os.geteuid() == 0 else 0
    if user not in (0, owner.pw_uid):
        raise CommandError(f"{path}: {user_name(user)} owns what is above it; name another place")
    return identity.ActingAs(user) if user else contextlib.nullcontext()


def _directory(path: str, owner: pwd.struct_passwd, mode: int) -> None:
    if os.path.isdir(path):
        return
    above = os.path.dirname(path)
    try:
        if not os.path.isdir(above):
            _make_passage(above)
        os.mkdir(path, mode)
        made = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.fchmod(made, mode)
            if os.geteuid() == 0:
                os.fchown(made, owner.pw_uid, owner.pw_gid)
        finally:
            os.close(made)
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror}") from None
    _say(path, owner, mode)


def _make_passage(path: str) -> None:
    """Make what is above, so that others can pass through it whatever the umask."""
    above = os.path.dirname(path)
    if not os.path.isdir(above):
        _make_passage(above)
    os.mkdir(path)
    os.chmod(path, _PASSAGE)


def _refuse_unreachable(path: str, owner: pwd.struct_passwd) -> None:
    """Raise CommandError where the agent's user could not come to a directory or look into it."""
    groups = os.getgrouplist(owner.pw_name, owner.pw_gid)
    while path != "/":
        try:
            found = os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            path = os.path.dirname(path)
            continue
        if not stat.S_ISDIR(found.st_mode):
            raise CommandError(f"{path}: not a directory; name another place")
        if found.st_uid == owner.pw_uid:
            bit = stat.S_IXUSR
        else:
            bit = stat.S_IXGRP if found.st_gid in groups else stat.S_IXOTH
        if not found.st_mode & bit and owner.pw_uid != 0:
            raise CommandError(f"{path}: {owner.pw_name} cannot enter it; chmod or chown it first")
        path = os.path.dirname(path)


def _refuse_unusable(directory: str, owner: pwd.struct_passwd) -> None:
    """Raise CommandError where the state directory is there and is not the agent's user's."""
    if not os.path.exists(directory):
        return
    found = os.stat(directory)
    if not stat.S_ISDIR(found.st_mode):
        raise CommandError(f"state directory {directory}: not a directory; name another")
    if found.st_uid not in (0, owner.pw_uid):
        raise CommandError(
            f"state directory {directory}: belongs to {user_name(found.st_uid)}; for a second "
            "user, give --state DIR and --config DIR of its own"
        )
    if found.st_uid != owner.pw_uid or found.st_mode & 0o022:
        raise CommandError(
            f"state directory {directory}: not {owner.pw_name}'s alone; first do "
            f"chown -R {owner.pw_name} {directory} && chmod 700 {directory}"
        )


def _file(path: str, content: str, owner: pwd.struct_passwd, mode: int) -> None:
    try:
        made = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(made, "w", encoding="utf-8") as file:
            os.fchmod(made, mode)
            if os.geteuid() == 0:
                os.fchown(made, owner.pw_uid, owner.pw_gid)
            file.write(content)
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror}") from None
    _say(path, owner, mode)


def _say(path: str, owner: pwd.struct_passwd, mode: int) -> None:
    print(f"made {path} (owner {owner.pw_name}, mode {mode:04o})")
