"""Positioned YAML: nodes read into typed values, every mistake kept with its line and column."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import yaml

from flipbell.log import escaped
from flipbell.wording import is_token_like, listed, may_be_token, shown, suggestion

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TAG = "tag:yaml.org,2002:"
_KINDS = {
    "bool": "a boolean",
    "int": "a number",
    "float": "a number",
    "timestamp": "a date",
    "merge": "a merge key",
    "value": "a `=`",
    "binary": "binary",
    "tagged": "with a tag of its own",
}
MAX_BYTES = 1 << 20
_MAX_DEPTH = 20
_KEY_LIMIT = 200  # characters of a key that are shown


@dataclass(frozen=True, slots=True)
class Problem:
    """A mistake in the configuration: where it is and what was expected.

    A warning leaves its channel at work. One that *blocks* keeps it from sending until something
    outside the configuration is mended, as a token's file.
    """

    file: str
    line: int
    column: int
    key: str
    message: str
    is_warning: bool = False
    blocks: bool = False

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        kind = "warning: " if self.is_warning else ""
        return (
            f"{place}: {kind}{self.key}: {self.message}" if self.key else f"{place}: {self.message}"
        )


class Problems:
    """Collects the problems of one file, each once."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.found: dict[Problem, None] = {}
        self.errors = 0  # how often one was found, though it is kept once

    def add(
        self,
        node: yaml.Node | None,
        key: str,
        message: str,
        *,
        is_warning: bool = False,
        blocks: bool = False,
    ) -> None:
        """Add a problem at a node, or of the whole file. It is one line, whatever a file holds."""
        mark = node.start_mark if node is not None else None
        line, column = (mark.line + 1, mark.column + 1) if mark is not None else (0, 0)
        self.errors += not is_warning
        said = escaped(message)
        name = escaped(_without_tokens(key)[:_KEY_LIMIT])
        self.found[Problem(self.file, line, column, name, said, is_warning, blocks)] = None

    def at(self, line: int, column: int, message: str) -> None:
        """Add a problem at a place that has no node."""
        self.errors += 1
        self.found[Problem(self.file, line, column, "", message)] = None


def _without_tokens(key: str) -> str:
    """Return a key's full name, without a token that was written in the place of a name."""
    return ".".join("…" if is_token_like(name) else name for name in key.split("."))


def compose(content: bytes, problems: Problems) -> yaml.MappingNode | None:
    """Return the mapping that a file holds; None if it is empty or was found to be broken."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        column = error.start - content.rfind(b"\n", 0, error.start)
        byte = f"0x{content[error.start]:02x}"
        problems.at(line, column, f"expected UTF-8, got byte {byte}; save the file as UTF-8")
        return None
    try:
        if not _is_plain(text, problems):
            return None
        node = yaml.compose(text, Loader=_LOADER)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        problems.at(
            line, column, f"not valid YAML: {error.problem or error.context}; {_hint(error)}"
        )
        return None
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        line, column = before.count("\n") + 1, error.position - before.rfind("\n")
        problems.at(line, column, f"a character that no text holds: {_character(error)}; remove it")
        return None
    if node is None:
        return None
    if not isinstance(node, yaml.MappingNode):
        problems.add(
            node, "", f"expected a mapping with `channels:`, got {describe(node, hides=True)}"
        )
        return None
    return node


def _hint(error: yaml.MarkedYAMLError) -> str:
    said = f"{error.context} {error.problem}"
    if "cannot start any token" in said:
        return "indent with spaces, not tabs, and put a text with special characters in quotes"
    if "mapping values are not allowed" in said:
        return "check the indentation, and put a text that holds `: ` in quotes"
    return "check the indentation, brackets and quotes before this place"


def _character(error: yaml.reader.ReaderError) -> str:
    character = error.character
    return f"U+{character if isinstance(character, int) else ord(character):04X}"


def _is_plain(text: str, problems: Problems) -> bool:
    """Refuse what could grow without bound, before a tree is built of it."""
    depth = documents = 0
    for event in yaml.parse(text, Loader=_LOADER):
        mark = event.start_mark
        place = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            problems.at(*place, "anchors and aliases (& and *) are not allowed; use `defaults:`")
            return False
        tag = getattr(event, "tag", None)
        if tag not in (None, f"{_TAG}str"):
            is_standard = tag.startswith(_TAG) or not may_be_token(tag)
            what = f"tags ({tag})" if is_standard else "tags"
            problems.at(*place, f"{what} are not allowed; remove it")
            return False
        if isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            if documents > 1:
                problems.at(*place, "expected one document, got a second after `---`; remove it")
                return False
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > _MAX_DEPTH:
                message = f"nested deeper than {_MAX_DEPTH} levels; expected no more than 5"
                problems.at(*place, message)
                return False
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
    return True


def describe(node: yaml.Node, *, hides: bool = False) -> str:
    """Return what a node is, in the words of an error.

    It shows no text that may be a token in the wrong place, and none at all if it *hides* it.
    """
    if isinstance(node, yaml.MappingNode):
        return "a mapping"
    if isinstance(node, yaml.SequenceNode):
        return "a list"
    kind = kind_of(node)
    if kind == "null":
        return "nothing"
    if kind == "str":
        return "a text" if hides else shown(_short(node.value))
    is_hidden = hides and may_be_token(node.value)
    return _KINDS[kind] if is_hidden else f"{_short(node.value)} ({_KINDS[kind]})"


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."  # noqa: PLR2004  fits a line


def kind_of(node: yaml.Node) -> str:
    """Return what YAML takes a scalar for: str, int, bool, null, and so on, or `tagged`."""
    kind = str(node.tag).removeprefix(_TAG)
    return kind if kind in _KINDS or kind in ("str", "null") else "tagged"


class Section:
    """A mapping that is read key by key; what it lacks may stand in *fallback*."""

    def __init__(
        self,
        problems: Problems,
        key: str,
        node: yaml.MappingNode,
        fallback: Section | None = None,
    ) -> None:
        self.problems = problems
        self.key = key
        self.node = node
        self.fallback = fallback
        self._known: set[str] = set()
        self._entries: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        for name_node, value in node.value:
            self._enter(name_node, value)

    def _enter(self, name_node: yaml.Node, value: yaml.Node) -> None:
        if not isinstance(name_node, yaml.ScalarNode):
            self.problems.add(name_node, self.key, f"expected a name, got {describe(name_node)}")
            return
        name = name_node.value
        if name in self._entries:
            first = self._entries[name][0].start_mark.line + 1
            message = f"given before, on line {first}; remove one of them"
            self.problems.add(name_node, self.path(name), message)
            return
        if kind_of(name_node) not in ("str", "int"):
            message = f"expected a name, got {describe(name_node)}; put it in quotes"
            self.problems.add(name_node, self.path(name), message)
            return
        self._entries[name] = (name_node, value)

    def path(self, name: str) -> str:
        """Return a key's full name, as in `channels.ops.notify`."""
        return f"{self.key}.{name}" if self.key else name

    def names(self) -> Iterator[tuple[str, yaml.Node, yaml.Node]]:
        """Yield each key with its node and its value's; all count as known."""
        for name, (name_node, value) in self._entries.items():
            self._known.add(name)
            yield name, name_node, value

    def own(self, name: str) -> yaml.Node | None:
        """Return a key's value as given here, whatever the fallback says."""
        self._known.add(name)
        if self.fallback is not None:
            self.fallback.own(name)  # known there as well
        return self._entries.get(name, (None, None))[1]

    def home_of(self, name: str) -> Section | None:
        """Return the section that gives a key: this one or its fallback."""
        if self.own(name) is not None:
            return self
        return self.fallback.home_of(name) if self.fallback else None

    def given(self, name: str) -> yaml.Node | None:
        """Return a key's value, given here or in the fallback."""
        home = self.home_of(name)
        return home.own(name) if home else None

    def problem(self, name: str, message: str) -> None:
        """Add a problem with a key, where its value stands."""
        home = self.home_of(name) or self
        home.problems.add(home.own(name) or home.node, home.path(name), message)

    def warn(self, name: str, message: str, *, blocks: bool = False) -> None:
        """Add a warning about a key; it *blocks* if nothing can be sent until it is mended."""
        home = self.home_of(name) or self
        node = home.own(name) or home.node
        home.problems.add(node, home.path(name), message, is_warning=True, blocks=blocks)

    def _scalar(
        self, name: str, kinds: Sequence[str], expected: str, *, is_secret: bool = False
    ) -> str | None:
        node = self.given(name)
        if node is None:
            return None
        if not isinstance(node, yaml.ScalarNode) or kind_of(node) not in kinds:
            is_quotable = isinstance(node, yaml.ScalarNode) and kind_of(node) != "null"
            hint = "; put it in quotes" if "str" in kinds and is_quotable else ""
            got = "something else" if is_secret else describe(node)
            self.problem(name, f"expected {expected}, got {got}{hint}")
            return None
        return str(node.value)

    def text(self, name: str, expected: str = "text", *, is_secret: bool = False) -> str | None:
        """Return a text; a plain decimal number counts as one, as room ids are written so.

        A problem with a secret does not show it.
        """
        value = self._scalar(name, ("str", "int"), expected, is_secret=is_secret)
        if value is None:
            return None
        node = self.given(name)
        is_number = node is not None and kind_of(node) == "int"
        if is_number and not (value.isdecimal() and (value == "0" or value[0] != "0")):
            shown = "this" if is_secret else value
            self.problem(name, f"YAML reads {shown} as another number; put it in quotes")
            return None
        if value == "":
            self.problem(name, f"expected {expected}, got an empty one")
            return None
        return value

    def integer(self, name: str, *, least: int, most: int) -> int | None:
        """Return a whole number."""
        expected = f"a whole number from {least} to {most}"
        value = self._scalar(name, ("int",), expected)
        if value is None:
            return None
        is_short = len(value) <= len(str(most)) + 1 and value.removeprefix("-").isdecimal()
        if is_short and least <= int(value) <= most:
            return int(value)
        self.problem(name, f"expected {expected}, got {_short(value)}")
        return None

    def number(self, name: str, *, least: float, most: float) -> float | None:
        """Return a number."""
        expected = f"a number from {least:g} to {most:g}"
        value = self._scalar(name, ("int", "float"), expected)
        try:
            number = None if value is None else float(value)
        except ValueError:
            number = float("nan")
        if number is None or least <= number <= most:
            return number
        self.problem(name, f"expected {expected}, got {_short(str(value))}")
        return None

    def one_of(self, name: str, choices: Sequence[str]) -> str | None:
        """Return one of the given words."""
        value = self._scalar(name, ("str",), listed(choices))
        if value is None or value in choices:
            return value
        hint = suggestion(value, choices)
        self.problem(name, f"expected {listed(choices)}, got {shown(_short(value))}{hint}")
        return None

    def refuse_unknown(self) -> None:
        """Add a problem for each key that was not asked for."""
        for name, (name_node, _) in self._entries.items():
            if name not in self._known:
                hint = suggestion(name, self._known) or f", expected {listed(sorted(self._known))}"
                known = "" if may_be_token(name) else name
                self.problems.add(name_node, self.path(known or "…"), f"unknown key{hint}")


def flag(node: yaml.Node) -> bool | None:
    """Return a YAML boolean, or None for anything else."""
    if isinstance(node, yaml.ScalarNode) and kind_of(node) == "bool":
        return str(node.value).lower() in ("true", "yes", "on")
    return None
