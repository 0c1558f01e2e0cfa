"""The configuration: channels read from every YAML file of a directory, with all its problems.

A file or a channel with a problem takes nothing else down with it.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import yaml

from flipbell import _yaml, places
from flipbell._channel import read_channel
from flipbell._yaml import Problem, Problems, Section
from flipbell.log import escaped
from flipbell.wording import is_token_like, not_permitted, user_name

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flipbell.channels import ChannelType
    from flipbell.model import Channel

_NAME = re.compile(r"[\w.@ -]{1,100}")
_NO_NAME = "this looks like a token; expected a name of your own, and the token in a token_file"
_NAME_EXPECTED = "expected a name of letters, digits, space and . _ @ -"

_OTHERS = (
    "belongs to user {}, who could have root send any file of this host as a token; "
    "chown it to root, or run flipbell as that user"
)

Signature = tuple[tuple[str, int, int, int], ...]


@dataclass(frozen=True, slots=True)
class Config:
    """What the directory says: channels that work, those that do not, and why."""

    directory: str
    channels: Mapping[str, Channel] = field(default_factory=dict)
    broken: frozenset[str] = frozenset()  # names of channels that have a problem
    unreadable: frozenset[str] = frozenset()  # files whose channels are not known
    problems: tuple[Problem, ...] = ()
    files: Mapping[str, frozenset[str]] = field(default_factory=dict)  # channel names by file

    @property
    def errors(self) -> list[Problem]:
        """The problems that are no mere warnings."""
        return [problem for problem in self.problems if not problem.is_warning]

    @property
    def obstacles(self) -> list[Problem]:
        """What keeps a channel that works from sending now."""
        return [problem for problem in self.problems if problem.blocks]


def signature(directory: str) -> Signature:
    """Return what changes whenever a file of the configuration does, or one comes or goes."""
    found = []
    for path in [directory, *_files(directory)]:
        try:
            seen = os.stat(path)
        except OSError:  # gone since the directory was listed
            continue
        found.append((path, seen.st_ctime_ns, seen.st_size, seen.st_ino))
    return tuple(found)


def age(seen: Signature) -> float:
    """Return how long ago the configuration was last written to (seconds)."""
    # Not the courier's clock: the kernel's, which stamps the files.
    return time.time() - max((entry[1] for entry in seen), default=0) / 1e9


def _files(directory: str) -> list[str]:
    try:
        names = os.listdir(directory)
    except OSError:
        return []
    return sorted(
        os.path.join(directory, name)
        for name in names
        if name.endswith((".yaml", ".yml")) and not name.startswith(".")
    )


def load(directory: str, types: Mapping[str, ChannelType]) -> Config:
    """Read every file of the directory. Never raises: what is wrong is in `problems`."""
    fault = _fault(directory)
    if fault is not None:
        problem = Problem(escaped(directory), 0, 0, "", fault)
        return Config(directory, unreadable=frozenset([directory]), problems=(problem,))
    documents = [_Document(path) for path in _files(directory)]
    defaults = _defaults(documents)
    reader = _Reader(types, defaults)
    for document in documents:
        reader.read(document)
    if defaults is not None:
        _refuse_unknown(defaults, types)
    return Config(
        directory,
        reader.channels,
        frozenset(reader.broken),
        frozenset(document.path for document in documents if document.unreadable),
        tuple(problem for document in documents for problem in _in_order(document)),
        {document.path: frozenset(document.channels) for document in documents},
    )


def _fault(directory: str) -> str | None:
    """Say why a directory cannot be read, if so."""
    user = _other_user(directory)
    if user:
        return _OTHERS.format(user)
    try:
        found = os.stat(directory)
    except FileNotFoundError:
        return "no such directory; flipbell init makes it, --config names another"
    except OSError as error:
        return f"{error.strerror} for {user_name()}; chmod what is above it, for that user"
    if not stat.S_ISDIR(found.st_mode):
        return "not a directory; name the one that holds the files with --config"
    if not os.access(directory, os.R_OK | os.X_OK):
        return not_permitted(directory, 0o755)
    return None


def _other_user(path: str) -> int:
    """Return the user who could have root read and send any file of this host, or 0."""
    return places.keeper(path) if os.geteuid() == 0 else 0


def _in_order(document: _Document) -> list[Problem]:
    return sorted(document.problems.found, key=lambda problem: (problem.line, problem.column))


def _refuse_unknown(defaults: Section, types: Mapping[str, ChannelType]) -> None:
    """Have a channel that says nothing ask the defaults for all that a channel can say."""
    empty = Section(Problems(""), "", yaml.MappingNode("", []), defaults)
    read_channel(empty, "", types)
    defaults.refuse_unknown()


class _Document:
    """One file: its top level, read as far as it goes."""

    def __init__(self, path: str) -> None:
        self.path = escaped(path)  # as it is shown and remembered
        self._file = path
        self.problems = Problems(self.path)
        self.unreadable = False
        self.channels: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        self.defaults: Section | None = None
        node = self._compose()
        if node is not None:
            self._read(Section(self.problems, "", node))

    def _compose(self) -> yaml.MappingNode | None:
        try:
            content = _read_file(self._file)
        except OSError as error:
            self.problems.add(None, "", _cannot_read(self._file, error))
            self.unreadable = True
            return None
        if len(content) > _yaml.MAX_BYTES:
            self.problems.add(None, "", f"expected at most {_yaml.MAX_BYTES} bytes; divide it")
            self.unreadable = True
            return None
        node = _yaml.compose(content, self.problems)
        self.unreadable = self.problems.errors > 0
        return node

    def _read(self, top: Section) -> None:
        channels = self._mapping(top, "channels")
        if channels is not None:
            self.channels = {name: (key, value) for name, key, value in channels.names()}
        self.defaults = self._mapping(top, "defaults")
        top.refuse_unknown()

    def _mapping(self, top: Section, name: str) -> Section | None:
        node = top.own(name)
        if node is None:
            return None
        if not isinstance(node, yaml.MappingNode):
            top.problem(name, f"expected a mapping, got {_yaml.describe(node, hides=True)}")
            return None
        return Section(self.problems, name, node)


def _read_file(path: str) -> bytes:
    user = _other_user(path)
    if user:
        raise OSError(errno.EPERM, _OTHERS.format(user))
    opened = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a FIFO must not block
    with open(opened, "rb") as file:
        mode = os.fstat(opened).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise OSError(errno.EINVAL, "no regular file")
        return file.read(_yaml.MAX_BYTES + 1)


def _cannot_read(path: str, error: OSError) -> str:
    if error.errno == errno.EISDIR:
        return "a directory; rename it, for every *.yaml here is read as a file"
    if error.errno == errno.EPERM:
        return str(error.strerror)
    if error.errno == errno.EACCES:
        return not_permitted(path, 0o644)
    return f"{error.strerror or error}; mend or remove it"


def _defaults(documents: list[_Document]) -> Section | None:
    first: Section | None = None
    for document in documents:
        if document.defaults is None:
            continue
        if first is None:
            first = document.defaults
        else:
            document.problems.add(
                document.defaults.node,
                "defaults",
                f"given before, in {first.problems.file}; remove one of them",
            )
    return first


class _Reader:
    """Reads channels; keeps those without a problem."""

    def __init__(self, types: Mapping[str, ChannelType], defaults: Section | None) -> None:
        self._types = types
        self._defaults = defaults
        self._places: dict[str, str] = {}
        self.channels: dict[str, Channel] = {}
        self.broken: set[str] = set()

    def read(self, document: _Document) -> None:
        """Read the channels of a file."""
        for name, (name_node, node) in document.channels.items():
            key = f"channels.{name}"
            errors_before = self._errors(document)
            if name in self._places:
                message = f"given before, at {self._places[name]}; rename one of them"
                document.problems.add(name_node, key, message)
            elif not _NAME.fullmatch(name):
                document.problems.add(name_node, key, _NAME_EXPECTED)
            elif is_token_like(name):
                document.problems.add(name_node, key, _NO_NAME)
            self._places.setdefault(name, f"{document.path}:{name_node.start_mark.line + 1}")
            channel = self._channel(document.problems, key, name, node)
            if channel is None or self._errors(document) > errors_before:
                self.broken.add(name)
            else:
                self.channels[name] = channel
        for name in self.broken:
            self.channels.pop(name, None)

    def _errors(self, document: _Document) -> int:
        shared = 0 if self._defaults is None else self._defaults.problems.errors
        return document.problems.errors + shared

    def _channel(self, problems: Problems, key: str, name: str, node: yaml.Node) -> Channel | None:
        if not isinstance(node, yaml.MappingNode):
            problems.add(node, key, f"expected a mapping, got {_yaml.describe(node, hides=True)}")
            return None
        section = Section(problems, key, node, self._defaults)
        return read_channel(section, name, self._types)
