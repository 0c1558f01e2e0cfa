"""What a room reads: a transition as text or HTML, cut to HipChat's limits."""

from __future__ import annotations

import html
import string
from typing import TYPE_CHECKING

from flipbell import perfdata
from flipbell.model import Notification, Status
from flipbell.zones import clock

if TYPE_CHECKING:
    from flipbell.model import Channel, Transition

PLACEHOLDERS = (
    "status",
    "check",
    "host",
    "previous",
    "duration",
    "history",
    "output",
    "perfdata",
    "time",
    "channel",
)
LIMIT = 10_000  # HipChat's, in characters; counted in UTF-16 units, which is never fewer
LATE = 300  # seconds after which a message says when its change was
_LINES = 10  # of the check's output
_OUTPUT_LIMIT = 2000  # characters of the check's output
_NAME_LIMIT = 200  # characters of a host's or check's name
_LONGEST_ESCAPE = 6  # characters that one may become, as in &quot;
_CUT = "…"
_CUT_FIRST = ("output", "perfdata")
_HTML = "<b>$status</b>: $check on $host$history$output"
_TEXT = "$status: $check on $host$history$output"
_JOINERS = "\u200d\u200c"  # emoji and some scripts are written with them
TEST = "(test) "
FORGOTTEN = "(forgotten) "
LATE_LETTER = "(late: resent after delivery had been given up) "
LATE_REPEAT = "(late: resent; an earlier try may have arrived) "
REPEAT = "(repeat: an earlier try may have arrived) "


def notification(
    transition: Transition, channel: Channel, *, notify: bool, now: float, mark: str = ""
) -> Notification:
    """Render a transition for a channel; *mark* says what kind of message it is, if not plain."""
    if transition.is_forgotten:
        text = escape(f"{mark}{FORGOTTEN}{_forgotten(transition)}", channel)
    else:
        text = render(transition, channel, now=now, mark=mark)
    return Notification(
        message=text,
        format=channel.format,
        color=channel.color[shown_as(transition)],
        notify=notify,
        sender=channel.sender,
    )


def shown_as(transition: Transition) -> Status:
    """Return the status whose colour a transition has; of a forgotten check none is known."""
    return Status.UNKNOWN if transition.is_forgotten else transition.status


def _forgotten(transition: Transition) -> str:
    before = f" (was {transition.previous.name})" if transition.previous else ""
    return f"{name_of(transition)}{before}: flipbell no longer knows this check"


def render(transition: Transition, channel: Channel, *, now: float, mark: str = "") -> str:
    """Return the message, at most LIMIT characters long.

    Only plain text is cut, before it is escaped, so no tag or entity is ever split.
    """
    fields = _fields(transition, channel, now)
    message = _fill(fields, transition, channel, mark)
    while length(message) > LIMIT and any(fields[name] for name in _CUT_FIRST):
        for name in _CUT_FIRST:
            fields[name] = cut(fields[name], len(fields[name]) // 2 - 1)
        message = _fill(fields, transition, channel, mark)
    if length(message) > LIMIT or not message.strip():  # a template of one's own can do either
        plain = f"{transition.status.name}: {transition.check} on {transition.host}"
        message = escape(cut(visible(plain), LIMIT // _LONGEST_ESCAPE), channel)
    return message


def _fields(transition: Transition, channel: Channel, now: float) -> dict[str, str]:
    """Return the value of each placeholder, as plain text."""
    _, data = perfdata.split(transition.output)
    return {
        "status": transition.status.name,
        "check": cut(visible(transition.check), _NAME_LIMIT),
        "host": cut(visible(transition.host), _NAME_LIMIT),
        "previous": transition.previous.name if transition.previous else "",
        "duration": _lasted(transition),
        "history": _history(transition, channel, now),
        "output": first_lines(transition.output),
        "perfdata": cut(visible(data), _OUTPUT_LIMIT),
        "time": clock(transition.occurred_at, channel.timezone),
        "channel": channel.name,
    }


def _fill(fields: dict[str, str], transition: Transition, channel: Channel, mark: str) -> str:
    template = channel.message
    if template is None:
        template = _HTML if channel.format == "html" else _TEXT
        fields = {**fields, "output": f"\n{fields['output']}" if fields["output"] else ""}
    escaped = {name: escape(value, channel) for name, value in fields.items()}
    mention = channel.mention.get(transition.status, "")
    head = f"{mention} " if mention else ""
    return head + escape(mark, channel) + string.Template(template).safe_substitute(escaped)


def _history(transition: Transition, channel: Channel, now: float) -> str:
    """Return what the status was and for how long, and when it changed if that is a while ago.

    It begins with a space and stands in brackets; on first sight it is empty.
    """
    parts = []
    if transition.previous is not None:
        lasted = _lasted(transition)
        parts.append(f"was {transition.previous.name}" + (f" for {lasted}" if lasted else ""))
    if now - transition.occurred_at > LATE:
        parts.append(f"at {clock(transition.occurred_at, channel.timezone)}")
    return f" ({', '.join(parts)})" if parts else ""


def _lasted(transition: Transition) -> str:
    if transition.previous_since is None:
        return ""
    return duration(transition.occurred_at - transition.previous_since)


def duration(seconds: float) -> str:
    """Return a duration as people say it: its two largest units."""
    rest = max(0, int(seconds))
    parts: list[str] = []
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        count, rest = divmod(rest, size)
        if count or (unit == "s" and not parts):
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2])


def name_of(transition: Transition) -> str:
    """Return how people call the check that a transition is of."""
    check, host = (cut(visible(name), _NAME_LIMIT) for name in (transition.check, transition.host))
    return f"{check} on {host}"


def first_lines(output: str) -> str:
    """Return the first lines of a check's output, without what is not for people to read."""
    text, _ = perfdata.split(output)
    lines = [visible(line).strip() for line in text.splitlines()[: _LINES * 3]]
    return cut("\n".join([line for line in lines if line][:_LINES]), _OUTPUT_LIMIT)


def visible(text: str) -> str:
    """Return text without control characters and marks that turn its direction."""
    if text.isprintable():
        return text
    return "".join(map(_visible, text))


def _visible(char: str) -> str:
    if char.isprintable() or char in _JOINERS:
        return char
    return " " if char.isspace() else ""


def cut(text: str, most: int) -> str:
    """Return at most *most* characters of a text."""
    return text if len(text) <= most else text[: max(0, most - 1)].rstrip() + _CUT * (most > 0)


def length(text: str) -> int:
    """Return the length in UTF-16 units, the strictest way a server may count."""
    return len(text) + sum(char > "\uffff" for char in text)


def escape(value: str, channel: Channel) -> str:
    """Return text escaped for the channel's format, so that no markup or mention takes effect."""
    if channel.format == "html":
        return html.escape(value).replace("\n", "<br>")
    return value.replace("@", "@\u200b")  # output must not ping @all
