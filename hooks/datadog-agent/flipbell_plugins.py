"""Drop-in for the Datadog Agent: check plugins whose changes flipbell tells.

For /etc/datadog-agent/checks.d/; its plugins are in conf.d/flipbell_plugins.d/conf.yaml.
"""

from __future__ import annotations

from typing import Any

from datadog_checks.base import AgentCheck

from flipbell.agents.agent_check import FlipbellMixin


class FlipbellPlugins(FlipbellMixin, AgentCheck):  # type: ignore[misc]
    """Runs a check plugin for each instance; its status is also a service check."""

    def check(self, instance: dict[str, Any]) -> None:
        """Run one plugin; flipbell has its result already, so only Datadog is told here."""
        name = instance["name"]
        status, output = self.run_plugin(name, instance["command"], instance.get("timeout", 30.0))
        # Datadog refuses a message that comes with an OK.
        message = output if status.value else ""
        AgentCheck.service_check(
            self, "flipbell.plugin", status.value, tags=[f"plugin:{name}"], message=message
        )
