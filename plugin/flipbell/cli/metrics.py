"""What `status` knows as metrics, in the text format that Prometheus' textfile collector reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from flipbell.look import ChannelView, Survey

    Sample = tuple[Mapping[str, str], float]


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric with its samples; a counter only ever grows."""

    name: str
    about: str
    samples: list[Sample]
    is_counter: bool = False

    def lines(self) -> Iterator[str]:
        """Yield the metric as text."""
        yield f"# HELP flipbell_{self.name} {self.about}"
        yield f"# TYPE flipbell_{self.name} {'counter' if self.is_counter else 'gauge'}"
        for labels, value in self.samples:
            inner = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels.items())
            shown = f"{{{inner}}}" if inner else ""
            yield f"flipbell_{self.name}{shown} {float(value):.15g}"


def as_prometheus(seen: Survey, now: float) -> str:
    """Return the metrics, each with its help and type; of a state that is not known, no figures."""
    if not seen.is_known:
        return "".join(f"{line}\n" for line in _up(seen).lines())
    found = [*_of_requests(seen), *_of_channels(seen, now), *_of_the_host(seen, now)]
    return "".join(f"{line}\n" for metric in found for line in metric.lines())


def _of_requests(seen: Survey) -> list[Metric]:
    told, sent, failed = (
        _counters(seen, "notifications", "outcome"),
        _counters(seen, "requests", None),
        _counters(seen, "failed", "reason"),
    )
    about = "Requests that the room did not accept, by reason."
    return [
        Metric("notifications_total", "Changes told or given up.", told, is_counter=True),
        Metric("notification_requests_total", "Requests made to the room.", sent, is_counter=True),
        Metric("notification_requests_failed_total", about, failed, is_counter=True),
    ]


def _of_channels(seen: Survey, now: float) -> list[Metric]:
    channels = [view for view in seen.channels if view.is_configured]

    def each(value: Callable[[ChannelView], float]) -> list[Sample]:
        return [({"channel": view.state.name}, value(view)) for view in channels]

    waited = each(lambda view: max(0.0, now - view.oldest) if view.oldest else 0.0)
    last = each(lambda view: view.state.last_success_at or 0.0)
    return [
        Metric("changes_waiting", "Changes not looked at yet.", each(lambda view: view.waiting)),
        Metric("oldest_waiting_seconds", "For how long the oldest of them has waited.", waited),
        Metric("dead_letters", "Messages that were given up.", each(lambda view: view.dead)),
        Metric(
            "perhaps_delivered",
            "Messages that were given up, though the room may have them.",
            each(lambda view: view.perhaps),
        ),
        Metric("channel_paused", "Whether it needs a person.", each(lambda v: v.state.paused)),
        Metric("last_success_timestamp_seconds", "When the room last took a message.", last),
    ]


def _of_the_host(seen: Survey, now: float) -> list[Metric]:
    waited = "For how long recorded results have waited for a courier to take them."
    errors = sum(not problem.is_warning for problem in seen.problems)
    return [
        Metric("checks", "Checks that were seen.", [({}, seen.checks)]),
        Metric("checks_failing", "Those not OK.", [({}, len(seen.failing))]),
        Metric("config_errors", "Mistakes in the configuration.", [({}, errors)]),
        Metric("spool_waiting_seconds", waited, [({}, seen.untaken_for(now))]),
        Metric("courier_up", "Whether a courier is at work.", [({}, seen.is_courier_alive)]),
        _up(seen),
    ]


def _up(seen: Survey) -> Metric:
    return Metric("up", "Whether the state can be used.", [({}, not seen.faults)])


def _counters(seen: Survey, name: str, label: str | None) -> list[Sample]:
    found: list[Sample] = []
    for (channel, counter), value in seen.counters.items():
        word, _, rest = counter.partition(" ")
        if word == name:
            labels = {"channel": channel} | ({label: rest} if label else {})
            found.append((labels, float(value)))
    return found


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
