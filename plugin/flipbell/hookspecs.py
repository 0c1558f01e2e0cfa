"""The hooks: what an agent calls, what flipbell calls in extensions, and the marker for both.

Everything is prefixed `flipbell_`, because a host's own hooks share the name space.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flipbell.agents import AgentFormat
    from flipbell.channels import ChannelType
    from flipbell.model import CheckResult, Transition

PROJECT = "flipbell"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


class AgentSpecs:
    """What an agent calls, with keyword arguments. No call raises, waits or touches a disk."""

    def flipbell_agent_started(self, agent: str) -> None:
        """Say that the agent runs.

        :param agent: the agent's name, for the log
        """

    def flipbell_check_result(self, result: CheckResult) -> None:
        """Report one result of a check; called for every result, changed or not.

        :param result: what the check said
        """

    def flipbell_agent_stopping(self, timeout: float) -> None:
        """Record what is still in memory, and deliver for at most *timeout* seconds.

        :param timeout: seconds; what is not delivered by then is left to a courier process
        """


class ExtensionSpecs:
    """What flipbell calls in extensions (entry-point group `flipbell`), mostly in the courier.

    An implementation that raises is logged and counts as if it had returned nothing.
    """

    @hookspec
    def flipbell_channel_types(self) -> Mapping[str, ChannelType]:  # type: ignore[empty-body]
        """Return channel types by the name that `type:` gives them."""

    @hookspec
    def flipbell_agent_formats(self) -> Mapping[str, AgentFormat]:  # type: ignore[empty-body]
        """Return agent formats by the name that `report --from` gives them."""

    @hookspec(firstresult=True)
    def flipbell_veto(self, transition: Transition, channel: str) -> str | None:
        """Keep a room from hearing of a transition: return the reason, or None to let it pass.

        :param transition: what the room would hear of
        :param channel: the channel's name
        """

    @hookspec
    def flipbell_delivered(self, transition: Transition, channel: str, outcome: str) -> None:
        """Learn what became of a message.

        :param transition: what the room was to hear of
        :param channel: the channel's name
        :param outcome: delivered, perhaps (given up, though the room may have it) or dead
        """
