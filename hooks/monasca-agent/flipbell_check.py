"""Drop-in for monasca-agent: check plugins whose changes flipbell tells.

For /usr/lib/monasca/agent/custom_checks.d/; its plugins are in conf.d/flipbell_check.yaml.
"""

from __future__ import annotations

from typing import Any

from monasca_agent.collector.checks import AgentCheck

from flipbell.agents.agent_check import FlipbellMixin


class FlipbellCheck(FlipbellMixin, AgentCheck):  # type: ignore[misc]
    """Runs a check plugin for each instance; its status is also a metric."""

    def check(self, instance: dict[str, Any]) -> None:
        """Run one plugin."""
        name = instance["name"]
        status, _ = self.run_plugin(name, instance["command"], instance.get("timeout", 30.0))
        self.gauge("flipbell.plugin", status.value, dimensions={"plugin": name})
