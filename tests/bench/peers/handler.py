"""A handler written with sensu-plugin, for an event that calls for nothing."""

from sensu_plugin import SensuHandler


class Handler(SensuHandler):  # type: ignore[misc]
    """Handles nothing."""

    def handle(self) -> None:
        """Do nothing with the event."""


Handler()
