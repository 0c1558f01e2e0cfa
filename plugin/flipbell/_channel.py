"""Reads one channel: the keys that every type of channel has, and those of its type."""

from __future__ import annotations

import string
from typing import TYPE_CHECKING

import yaml

from flipbell import _yaml, zones
from flipbell._yaml import Section
from flipbell.channels.hipchat import COLORS, SENDER_LIMIT
from flipbell.message import PLACEHOLDERS
from flipbell.model import Channel, Pattern, Status
from flipbell.wording import listed, may_be_token, suggestion

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from flipbell.channels import ChannelType

DEFAULT_COLORS = {
    Status.OK: "green",
    Status.WARNING: "yellow",
    Status.CRITICAL: "red",
    Status.UNKNOWN: "gray",
}
ALL = frozenset(Status)
PROBLEMS = ALL - {Status.OK}
_TEMPLATE_LIMIT = 4000
_WORDS = tuple(status.name.lower() for status in Status)


def read_channel(section: Section, name: str, types: Mapping[str, ChannelType]) -> Channel | None:
    """Read a channel; what is wrong with it is added to the section's problems."""
    kind = section.one_of("type", sorted(types)) or "hipchat"
    settings = _settings(section, kind, types[kind])
    form = section.one_of("format", ("html", "text")) or "html"
    errors_before = section.problems.errors
    send = _statuses(section, "send", ALL)
    if send <= {Status.OK} and section.problems.errors == errors_before:
        section.warn(
            "send",
            "this room never hears anything, for an OK is told only after a problem; add a status",
        )
    notify = _statuses(section, "notify", PROBLEMS)
    if section.problems.errors == errors_before:
        _warn_of_unheard(section, send)
    color = {**DEFAULT_COLORS, **_texts(section, "color", listed(COLORS), COLORS)}
    mention = _mention(section, form)
    match = _patterns(section, "match") or (Pattern(),)
    exclude = _patterns(section, "exclude")
    is_silent = bool(exclude) and not _leaves(match, exclude)
    if is_silent and section.problems.errors == errors_before:
        section.warn("exclude", "this room never hears anything, for all that matches is excluded")
    message = _template(section)
    sender = _sender(section)
    timezone = _timezone(section)
    per_minute = section.integer("per_minute", least=0, most=10_000)
    section.refuse_unknown()
    return Channel(
        name=name,
        type=kind,
        send=send,
        notify=notify,
        color=color,
        mention=mention,
        match=match,
        exclude=exclude,
        format=form,
        message=message,
        sender=sender,
        timezone=timezone,
        per_minute=30 if per_minute is None else per_minute,
        settings=settings,
    )


def _settings(section: Section, kind: str, channel_type: ChannelType) -> object:
    try:
        return channel_type.read(section)
    except Exception as error:  # noqa: BLE001  an extension's mistake stays its own
        section.problem("type", f"type {kind} failed to read it: {type(error).__name__}: {error}")
        return None


def _layers(section: Section, name: str) -> list[tuple[Section, yaml.Node]]:
    """Return where a key is given, the defaults first: a map changes only what it names."""
    found = [] if section.fallback is None else _layers(section.fallback, name)
    node = section.own(name)
    return found if node is None else [*found, (section, node)]


def _statuses(section: Section, name: str, base: frozenset[Status]) -> frozenset[Status]:
    """Read `send` or `notify`: true or false, a complete list, or a map that changes *base*."""
    for home, node in _layers(section, name):
        if isinstance(node, yaml.MappingNode):
            base = _changed(home, name, node, base)
        elif isinstance(node, yaml.SequenceNode):
            base = frozenset(filter(None, (_status(home, name, item) for item in node.value)))
        elif _yaml.flag(node) is not None:
            base = ALL if _yaml.flag(node) else frozenset()
        else:
            home.problem(
                name,
                "expected true, false, a list of statuses or a map from status to true or false, "
                f"got {_yaml.describe(node)}",
            )
    return base


def _warn_of_unheard(section: Section, send: frozenset[Status]) -> None:
    """Warn of a status that is to ring in a room that does not hear of it."""
    node = section.own("notify")
    named: list[tuple[Status | None, yaml.Node]] = []  # none by `true`: that is for all it hears
    if isinstance(node, yaml.MappingNode):
        entries = _by_status(section, "notify", node)
        named = [(status, value) for status, value, _ in entries if _yaml.flag(value)]
    elif isinstance(node, yaml.SequenceNode):
        named = [(_status(section, "notify", item), item) for item in node.value]
    for status, where in named:
        if status is not None and status not in send:
            word = status.name.lower()
            message = f"{word} cannot ring, for `send` keeps it from this room; add it there"
            section.problems.add(where, section.path("notify"), message, is_warning=True)


def _changed(
    home: Section, name: str, node: yaml.MappingNode, base: frozenset[Status]
) -> frozenset[Status]:
    for status, value, key in _by_status(home, name, node):
        wanted = _yaml.flag(value)
        if wanted is None:
            is_quoted = isinstance(value, yaml.ScalarNode) and value.value in ("true", "false")
            hint = "; remove the quotes" if is_quoted else ""
            message = f"expected true or false, got {_yaml.describe(value)}{hint}"
            home.problems.add(value, key, message)
        elif wanted:
            base |= {status}
        else:
            base -= {status}
    return base


def _by_status(
    home: Section, name: str, node: yaml.MappingNode
) -> list[tuple[Status, yaml.Node, str]]:
    inner = Section(home.problems, home.path(name), node)
    found: dict[Status, tuple[Status, yaml.Node, str]] = {}
    for word, word_node, value in inner.names():
        status = _status(home, name, word_node)
        if status in found:
            message = "given before, in another spelling; remove one of them"
            home.problems.add(word_node, inner.path(word), message)
        elif status is not None:
            found[status] = (status, value, inner.path(word))
    return [*found.values()]


def _status(home: Section, name: str, node: yaml.Node) -> Status | None:
    word = node.value.lower() if isinstance(node, yaml.ScalarNode) else ""
    if word in _WORDS:
        return Status[word.upper()]
    hint = suggestion(word, _WORDS)
    message = f"expected {listed(_WORDS)}, got {_yaml.describe(node)}{hint}"
    home.problems.add(node, home.path(name), message)
    return None


def _texts(
    section: Section, name: str, expected: str, choices: Sequence[str] = ()
) -> dict[Status, str]:
    """Read a map from status to text, one of *choices* if there are any."""
    texts: dict[Status, str] = {}
    for home, node in _layers(section, name):
        if not isinstance(node, yaml.MappingNode):
            home.problem(name, f"expected a map from status to {expected}")
            continue
        for status, value, key in _by_status(home, name, node):
            is_text = isinstance(value, yaml.ScalarNode) and _yaml.kind_of(value) == "str"
            if is_text and value.value and (not choices or value.value in choices):
                texts[status] = value.value
                continue
            hint = suggestion(value.value, choices) if is_text else ""
            message = f"expected {expected}, got {_yaml.describe(value)}{hint}"
            home.problems.add(value, key, message)
    return texts


def _mention(section: Section, form: str) -> Mapping[Status, str]:
    mention = _texts(section, "mention", "a text, as in '@here'")
    if mention and form == "html":
        section.problem("mention", "needs `format: text`; HipChat pings nobody from HTML")
    return mention


def _patterns(section: Section, name: str) -> tuple[Pattern, ...]:
    node = section.given(name)
    if node is None:
        return ()
    if not isinstance(node, yaml.SequenceNode) or not node.value:
        section.problem(name, "expected a list, as in [{host: 'web-*', check: '*'}]")
        return ()
    home = section.home_of(name) or section
    return tuple(_pattern(home, f"{name}[{index}]", item) for index, item in enumerate(node.value))


def _leaves(match: Sequence[Pattern], exclude: Sequence[Pattern]) -> bool:
    """Return whether a pattern is left that is not excluded as it stands."""
    return Pattern() not in exclude and any(pattern not in exclude for pattern in match)


def _pattern(home: Section, name: str, node: yaml.Node) -> Pattern:
    if not isinstance(node, yaml.MappingNode):
        message = f"expected {{host: …, check: …}}, got {_yaml.describe(node, hides=True)}"
        home.problems.add(node, home.path(name), message)
        return Pattern()
    section = Section(home.problems, home.path(name), node)
    pattern = Pattern(section.text("host") or "*", section.text("check") or "*")
    section.refuse_unknown()
    return pattern


def _template(section: Section) -> str | None:
    text = section.text("message")
    if text is None:
        return None
    if len(text) > _TEMPLATE_LIMIT:
        section.problem(
            "message", f"expected at most {_TEMPLATE_LIMIT} characters, got {len(text)}"
        )
    for found in string.Template.pattern.finditer(text):
        name = found["named"] or found["braced"]
        if name is not None and name not in PLACEHOLDERS:
            hint = suggestion(name, PLACEHOLDERS) or f", expected {listed(PLACEHOLDERS)}"
            known = "…" if may_be_token(name) else name
            section.problem("message", f"unknown ${known}{hint}")
        elif found["invalid"] is not None:
            section.problem("message", "a $ that starts no name; write $$ for a dollar sign")
    return text


def _sender(section: Section) -> str:
    sender = section.text("from") or "flipbell"
    if len(sender) > SENDER_LIMIT or not sender.isprintable():
        section.problem("from", f"expected at most {SENDER_LIMIT} printable characters")
    return sender


def _timezone(section: Section) -> str:
    name = section.text("timezone", "a time zone such as Europe/Berlin, UTC or local")
    if name is None:
        return zones.UTC
    try:
        zones.find(name)
    except zones.ZoneError as error:
        section.problem("timezone", str(error))
    return name
