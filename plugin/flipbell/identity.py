"""Whose rights are used: root becomes the owner of a state directory before it touches the state.

Another user's state and configuration are in that user's hands, links and all. Acting with root's
rights on them would lend those rights to the user.
"""

import posix

from flipbell import places
from flipbell.state import StateError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

_NO_GROUP = 65534
_KEPT = ("PATH", "LANG", "LANGUAGE", "TZ")
_KEPT_FAMILIES = ("FLIPBELL_", "LC_")


def become_owner(path: str) -> bool:
    """As root, become the user who owns a path, for good; return whether the user has changed.

    Of the environment, only what flipbell itself needs stays. Raises StateError.
    """
    user = places.keeper(path) if posix.geteuid() == 0 else 0
    if user == 0:
        return False
    _refuse_mixed(path, user)
    group, groups, home = _account(user)
    _load_what_recording_needs()
    try:
        posix.setgroups(groups)
        posix.setgid(group)
        posix.setuid(user)
    except OSError as error:
        raise StateError(f"{path}: cannot act as its user {user}: {error.strerror}") from None
    _leave_roots_environment(home)
    return True


def _refuse_mixed(path: str, user: int) -> None:
    """Name the reason if what is root's can be replaced by a user, who cannot use it."""
    try:
        is_roots = posix.stat(path).st_uid == 0
    except OSError:
        return
    if is_roots:
        raise StateError(
            f"{path}: belongs to root, but user {user} owns something above it and could put "
            f"another in its place; chown both to the same user"
        )


def _load_what_recording_needs() -> None:
    """Load what the user may be unable to read, so that a result is recorded all the same."""
    import logging.handlers  # noqa: F401

    from flipbell import log, recorder, summon  # noqa: F401


class ActingAs:
    """A context in which root has a user's rights. For one thread: it concerns the process."""

    def __init__(self, user: int) -> None:
        self._user = user
        self._before = (posix.getgroups(), posix.getegid())

    def __enter__(self) -> None:
        """Take the user's rights. Raises OSError."""
        group, groups, _ = _account(self._user)
        try:
            posix.setgroups(groups)
            posix.setegid(group)
            posix.seteuid(self._user)
        except OSError:
            self._return()
            raise

    def __exit__(
        self,
        kind: "type[BaseException] | None",
        error: BaseException | None,
        trace: "TracebackType | None",
    ) -> None:
        """Be root again."""
        self._return()

    def _return(self) -> None:
        groups, group = self._before
        posix.seteuid(0)
        posix.setegid(group)
        posix.setgroups(groups)


def _account(user: int) -> "tuple[int, list[int], str]":
    """Return a user's group, all groups and home directory; none of root's for an unknown user."""
    import os
    import pwd

    try:
        account = pwd.getpwuid(user)
    except KeyError:
        return _NO_GROUP, [], "/nonexistent"
    return account.pw_gid, os.getgrouplist(account.pw_name, account.pw_gid), account.pw_dir


def _leave_roots_environment(home: str) -> None:
    """Keep of the environment what flipbell itself needs, with the user's own home directory.

    The user may read the environment of a courier, and name any variable as `token_env`.
    """
    import os

    for name in [*os.environ]:
        if name not in _KEPT and not name.startswith(_KEPT_FAMILIES):
            del os.environ[name]
    os.environ["HOME"] = home
