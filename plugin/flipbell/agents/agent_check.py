"""monasca-agent and the Datadog Agent: a mixin for their `AgentCheck`, in the agent's process.

    class Disk(FlipbellMixin, AgentCheck):
        def check(self, instance):
            self.service_check("disk.full", AgentCheck.CRITICAL, message="3% free")

What such a check says with Datadog's `service_check` goes to the agent as ever, and to flipbell.
monasca-agent has no service checks: there, and anywhere, `tell` gives a result to flipbell alone,
and `run_plugin` runs a check plugin and tells its result.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from typing import TYPE_CHECKING, Any

from flipbell.model import CheckResult, Status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flipbell.plugin import Flipbell

_TIMEOUT = 30.0  # seconds that a plugin has, unless it is told otherwise
_lock = threading.Lock()
_bells: list[Flipbell] = []  # one for all checks of the agent's process


class FlipbellMixin:
    """Put before `AgentCheck` in a check's bases. No method raises or waits for flipbell."""

    def service_check(  # as Datadog calls it; the rest is passed on
        self,
        name: str,
        status: Any,  # noqa: ANN401  0 to 3, an enumeration, or an agent's mistake
        tags: Sequence[str] | None = None,
        hostname: str | None = None,
        message: str | None = None,
        **more: Any,  # noqa: ANN401  what later versions add
    ) -> None:
        """Tell flipbell, then the agent. Tags that tell instances apart are part of the name."""
        check = f"{name}{{{','.join(sorted(tags))}}}" if tags else name
        self.tell(check, status, message or "", hostname)
        above: Any = super()
        above.service_check(name, status, tags=tags, hostname=hostname, message=message, **more)

    def tell(
        self,
        check: str,
        status: Any,  # noqa: ANN401  as above
        output: str = "",
        hostname: str | None = None,
    ) -> None:
        """Give flipbell a result."""
        configured = getattr(self, "agent_config", None) or {}  # monasca-agent's
        host = hostname or getattr(self, "hostname", None) or configured.get("hostname")
        host = host or os.uname().nodename
        _bell().report(CheckResult(str(host), str(check), _status(status), output))

    def run_plugin(
        self, check: str, command: Sequence[str], timeout: float = _TIMEOUT
    ) -> tuple[Status, str]:
        """Run a check plugin, tell its result, and return it.

        A plugin that cannot be started, or takes longer than *timeout* seconds, is UNKNOWN.
        """
        status, output = _ran(command, timeout)
        self.tell(check, status, output)
        return status, output


def _ran(command: Sequence[str], timeout: float) -> tuple[Status, str]:
    try:
        process = subprocess.Popen(  # noqa: S603  the command that the agent's admin wrote
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # so that all that it started ends with it
        )
    except (OSError, ValueError) as error:
        return Status.UNKNOWN, f"cannot start {command[0]}: {error}"
    with process:
        try:
            output, _ = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return Status.UNKNOWN, f"{command[0]}: no answer within {timeout:g} s"
    return Status.from_exit_status(process.returncode), output.decode("utf-8", "replace")


def _status(value: object) -> Status:
    """Read a status; Datadog's `ServiceCheckStatus` carries the number as its value."""
    try:
        return Status.parse(getattr(value, "value", value))
    except ValueError:
        return Status.UNKNOWN


def _bell() -> Flipbell:
    with _lock:
        if not _bells:
            from flipbell.plugin import start

            _bells.append(start("agent_check"))
        return _bells[0]
