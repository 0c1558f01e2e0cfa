"""Drop-in for sauna: a consumer that tells flipbell every result. For a directory of extra_plugins.

The consumer raises nothing and waits for nothing, so sauna never sends a result again.
"""

from __future__ import annotations

from typing import Any

from sauna.consumers import ConsumerRegister
from sauna.consumers.base import QueuedConsumer

import flipbell
from flipbell.agents import sauna

register = ConsumerRegister("Flipbell")


@register.consumer()
class FlipbellConsumer(QueuedConsumer):  # type: ignore[misc]  # sauna is untyped
    """Tells each result as it comes."""

    def __init__(self, config: dict[str, Any] | None) -> None:
        super().__init__(config)
        self._bell = flipbell.start("sauna")

    def _send(self, service_check: sauna.ServiceCheck) -> None:
        self._bell.report(sauna.result(service_check))
