"""sauna: a service check as its consumers get it, in the agent's process."""

from __future__ import annotations

from typing import Protocol

from flipbell.model import CheckResult, Status


class ServiceCheck(Protocol):
    """What sauna gives: every result, its status as the check's process ended (42, -9, …)."""

    @property
    def timestamp(self) -> float:
        """When the check was begun, in whole seconds."""
        ...

    @property
    def hostname(self) -> str:
        """The host."""
        ...

    @property
    def name(self) -> str:
        """The check's name, in small letters."""
        ...

    @property
    def status(self) -> int:
        """The exit status; negative for a signal."""
        ...

    @property
    def output(self) -> str:
        """Stdout and stderr."""
        ...


def result(check: ServiceCheck) -> CheckResult:
    """Return the check's result."""
    status = Status.from_exit_status(check.status)
    return CheckResult(check.hostname, check.name, status, check.output, float(check.timestamp))
