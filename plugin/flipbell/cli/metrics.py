"""What `status` knows as metrics, in the text format that Prometheus' textfile collector reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from flipbell.look import Survey

    Sample = tuple[Mapping[str, str], float]


def as_prometheus(seen: Survey, now: float) -> str:
    """Return the metrics, each with its help and type."""
    return "".join(line + "\n" for line in _lines(seen, now))


def _lines(seen: Survey, now: float) -> Iterator[str]:
    channels = [view for view in seen.channels if view.is_configured]

    def each(values: Iterable[float]) -> list[Sample]:
        names = [{"channel": view.state.name} for view in channels]
        return list(zip(names, values, strict=True))

    yield from _metric(
        "notifications_total",
        "counter",
        "Changes that were told or given up, by outcome.",
        _counters(seen, "notifications", "outcome"),
    )
    yield from _metric(
        "notification_requests_total",
        "counter",
        "Requests made to the room.",
        _counters(seen, "requests", None),
    )
    yield from _metric(
        "notification_requests_failed_total",
        "counter",
        "Requests that the room did not accept, by reason.",
        _counters(seen, "failed", "reason"),
    )
    yield from _metric(
        "changes_waiting",
        "gauge",
        "Changes that the channel has yet to look at.",
        each(view.waiting for view in channels),
    )
    yield from _metric(
        "oldest_waiting_seconds",
        "gauge",
        "For how long the oldest of them has waited.",
        each(max(0.0, now - view.oldest) if view.oldest else 0.0 for view in channels),
    )
    yield from _metric(
        "dead_letters", "gauge", "Messages that were given up.", each(v.dead for v in channels)
    )
    yield from _metric(
        "channel_paused",
        "gauge",
        "Whether the channel needs a person.",
        each(view.state.paused for view in channels),
    )
    yield from _metric(
        "last_success_timestamp_seconds",
        "gauge",
        "When the room last took a notification.",
        each(view.state.last_success_at or 0.0 for view in channels),
    )
    errors = sum(not problem.is_warning for problem in seen.problems)
    yield from _metric("checks", "gauge", "Checks that were seen.", [({}, seen.checks)])
    yield from _metric("checks_failing", "gauge", "Those not OK.", [({}, len(seen.failing))])
    yield from _metric("config_errors", "gauge", "Mistakes in the configuration.", [({}, errors)])
    yield from _metric("up", "gauge", "Whether the state can be used.", [({}, not seen.faults)])


def _counters(seen: Survey, name: str, label: str | None) -> list[Sample]:
    found: list[Sample] = []
    for (channel, counter), value in seen.counters.items():
        word, _, rest = counter.partition(" ")
        if word == name:
            labels = {"channel": channel} | ({label: rest} if label else {})
            found.append((labels, float(value)))
    return found


def _metric(name: str, kind: str, about: str, samples: Iterable[Sample]) -> Iterator[str]:
    yield f"# HELP flipbell_{name} {about}"
    yield f"# TYPE flipbell_{name} {kind}"
    for labels, value in samples:
        inner = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels.items())
        shown = f"{{{inner}}}" if inner else ""
        yield f"flipbell_{name}{shown} {float(value):.15g}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
