"""What on this host makes flipbell slower or less safe than it could be: notes for `status`."""

from __future__ import annotations

import importlib.util
import os
import sys
from typing import TYPE_CHECKING

from flipbell import detach

if TYPE_CHECKING:
    from collections.abc import Iterator

_PACKAGE = os.path.dirname(os.path.abspath(__file__))
_NETWORK = ("nfs", "cifs", "smb", "9p", "ceph", "afs", "gluster", "lustre", "fuse.sshfs")
_MEMORY = ("tmpfs", "ramfs")
_CONTAINER = ("overlay", "aufs")


def notes(directory: str) -> tuple[str, ...]:
    """Say what to know of the state directory's file system and of this installation."""
    return (
        *_about_file_system(directory),
        *_about_limits(directory),
        *_about_bytecode(f"{_PACKAGE}/run.py"),
    )


def _about_file_system(directory: str) -> Iterator[str]:
    kind = file_system(directory, _mounts())
    if kind.startswith(_NETWORK):
        yield f"{directory} is on a network ({kind}), where locks may fail; use a local disk"
    elif kind in _MEMORY:
        yield f"{directory} is in memory ({kind}): a restart forgets all; use a disk"
    elif kind in _CONTAINER:
        yield f"{directory} is in a container's layer ({kind}): a new one forgets all; use a volume"


def _about_limits(directory: str) -> Iterator[str]:
    fault = detach.last_fault(directory)
    if fault is not None:
        yield f"a courier could not work with the limits of the check that started it: {fault}"


def _mounts() -> str:
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError:  # not Linux
        return ""


def file_system(directory: str, mounts: str) -> str:
    """Return the type of the file system that holds a directory, as in proc(5)'s mountinfo."""
    path = os.path.realpath(directory)
    found = ("", "")
    for line in mounts.splitlines():
        fields, _, source = line.partition(" - ")
        point = fields.split(" ")[4].replace("\\040", " ")
        is_above = path == point or path.startswith(f"{point.rstrip('/')}/")
        if is_above and len(point) >= len(found[0]):  # the later hides the earlier
            found = (point, source.split(" ")[0])
    return found[1]


def _about_bytecode(module: str) -> Iterator[str]:
    """Say that each run compiles flipbell anew, which takes longer than all the rest of it."""
    if not os.path.exists(importlib.util.cache_from_source(module)):
        compiling = f"{sys.executable} -m compileall -q {_PACKAGE}"
        yield f"{_PACKAGE} has no bytecode, which makes each run slow; do: {compiling}"
