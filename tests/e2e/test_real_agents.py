"""Real agents with the shipped drop-ins: the room hears exactly the changes, whatever dies."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from e2e.agent import HOST
from e2e.agents import AGENTS
from hipchat_room import Answer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from e2e.agent import Agent
    from hipchat_room import HipChatServer

    Scenario = Callable[[Agent], None]

REPEATS = 2  # further results of a status, of which the room must hear nothing


def flips(agent: Agent) -> None:
    """OK, WARNING, CRITICAL, OK, each with repeats."""
    agent.wait_for_runs(REPEATS)
    changes = [("1", "WARNING"), ("2", "CRITICAL"), ("0", "OK")][agent.is_binary :]
    for code, status in changes:
        agent.flip(code)
        agent.wait_to_hear(status)
        agent.wait_for_runs(REPEATS)

    statuses = [status for _, status in changes]
    assert agent.heard() == dict.fromkeys(agent.checks, statuses)


def killed_and_restarted(agent: Agent) -> None:
    """The agent is killed while its checks find the change, and started again."""
    agent.wait_for_runs(1)
    agent.flip("slow")
    agent.wait_for_runs_as("slow", 1)
    agent.end(signal.SIGKILL)
    agent.start()
    agent.wait_to_hear("CRITICAL")
    agent.wait_for_runs(REPEATS)
    agent.flip("0")
    agent.wait_to_hear("OK")

    assert agent.heard() == {check: ["CRITICAL", "OK"] for check in agent.checks}


def hipchat_down(agent: Agent) -> None:
    """HipChat takes nothing while the status changes."""
    agent.wait_for_runs(1)
    agent.room.otherwise = Answer(503)
    agent.flip("2")
    agent.wait(lambda: agent.room.requests)
    agent.wait_for_runs(REPEATS)
    assert agent.site.couriers() or agent.name == "sauna"  # which has work to do
    assert agent.room.heard == []
    agent.room.otherwise = Answer()
    agent.wait_to_hear("CRITICAL")
    agent.wait_for_runs(REPEATS)
    agent.flip("0")
    agent.wait_to_hear("OK")

    assert agent.heard() == {check: ["CRITICAL", "OK"] for check in agent.checks}


def hangs(agent: Agent) -> None:
    """The checks hang until the agent kills them.

    What it says of them is told. Of a wrapped check it says so to itself alone: where it kills the
    wrapper at once, the room hears nothing, else UNKNOWN.
    """
    agent.wait_for_runs(1)
    agent.flip("hang")
    agent.wait_for_runs_as("hang", 2)  # the first of them is no more
    agent.flip("2")
    agent.wait_to_hear("CRITICAL")
    agent.wait_for_runs(REPEATS)
    agent.flip("0")
    agent.wait_to_hear("OK")

    heard = agent.heard()
    first = [agent.hung] if agent.hung != "CRITICAL" else []
    assert {check: heard[check] for check in agent.told} == {
        check: [*first, "CRITICAL", "OK"] for check in agent.told
    }
    if agent.wrapped:
        assert heard["wrapped"] in (["CRITICAL", "OK"], ["UNKNOWN", "CRITICAL", "OK"])


def recovers_in_downtime(agent: Agent) -> None:
    """What the agent holds back in a downtime is told when that ends, cancelled or in time."""
    agent.wait_for_runs(1)
    agent.flip("2")
    agent.wait_to_hear("CRITICAL")
    _begin_downtime(agent, seconds=600)
    agent.flip("0")
    agent.wait(lambda: agent.heard()["handled"][-1:] == ["OK"])
    agent.wait_for_runs(REPEATS)
    assert agent.heard()["told"] == ["CRITICAL"]
    agent.order("DEL_SVC_DOWNTIME;1")
    agent.wait_to_hear("OK")

    agent.flip("2")
    agent.wait_to_hear("CRITICAL")
    _begin_downtime(agent, seconds=6)
    agent.flip("0")
    agent.wait_to_hear("OK")

    assert agent.heard() == {check: ["CRITICAL", "OK"] * 2 for check in agent.checks}


def _begin_downtime(agent: Agent, seconds: int) -> None:
    begun = agent.logged().count(agent.downtime_begun)
    now = int(time.time())
    words = f"{HOST};told;{now};{now + seconds};1;0;{seconds};operator;planned"
    agent.order(f"SCHEDULE_SVC_DOWNTIME;{words}")
    agent.wait(lambda: agent.logged().count(agent.downtime_begun) > begun)


def recovers_while_it_flaps(agent: Agent) -> None:
    """What the agent holds back while a check flaps is told when that ends."""
    agent.wait_for_runs(1)
    code = "0"
    for _ in range(4):
        _flap(agent, code)
        if agent.heard()["told"][-1:] == ["CRITICAL"]:
            break
        # A problem is told in any case; it is the recovery that may get lost, so once more.
        code = "2"
        agent.flip(code)
        agent.wait(lambda: agent.heard()["told"][-1:] == ["CRITICAL"])
    agent.flip("0")
    agent.wait(lambda: agent.heard()["told"][-1] == "OK")


def _flap(agent: Agent, code: str) -> None:
    """Flip the checks, which give a status now, until the agent finds that one flaps."""
    begun = agent.logged().count(agent.flapping_begun)
    for _ in range(30):
        code = "2" if code == "0" else "0"
        agent.flip(code)
        agent.wait_for_runs(1)
        if agent.logged().count(agent.flapping_begun) > begun:
            break
    assert agent.logged().count(agent.flapping_begun) > begun
    agent.wait_for_runs(1)
    agent.site.deliver()


@pytest.fixture(scope="module")
def homes() -> Iterator[Path]:
    """A directory that other users reach; another pytest on this machine would close its own."""
    with tempfile.TemporaryDirectory(prefix="flipbell-agents-") as directory:
        os.chmod(directory, 0o755)
        yield Path(directory)


@pytest.fixture(scope="module")
def runs(
    homes: Path,
    hipchat_server: HipChatServer,
    tool: Callable[[str], str],
) -> Iterator[Callable[[Scenario, type[Agent]], None]]:
    """Run a scenario on all agents at once, when the first of them is asked for."""
    done: dict[tuple[str, str], Future[None]] = {}
    with ThreadPoolExecutor(len(AGENTS)) as pool:

        def run(scenario: Scenario, kind: type[Agent]) -> None:
            if (scenario.__name__, kind.name) not in done:
                for each in _capable(scenario):
                    home = homes / f"{each.name}-{scenario.__name__}"
                    key = (scenario.__name__, each.name)
                    done[key] = pool.submit(_carry_out, scenario, each, home, hipchat_server, tool)
            done[(scenario.__name__, kind.name)].result()

        yield run


def _capable(scenario: Scenario) -> list[type[Agent]]:
    """Return the agents that know what a scenario is about."""
    if scenario is recovers_in_downtime:
        return [kind for kind in AGENTS if kind.downtime_begun]
    if scenario is recovers_while_it_flaps:
        return [kind for kind in AGENTS if kind.flapping_begun]
    return list(AGENTS)


_PAIRS = [
    pytest.param(scenario, kind, id=f"{scenario.__name__}-{kind.name}")
    for scenario in (
        *(killed_and_restarted, hipchat_down, hangs),
        *(recovers_in_downtime, recovers_while_it_flaps),
    )
    for kind in _capable(scenario)
]


def _carry_out(
    scenario: Scenario,
    kind: type[Agent],
    home: Path,
    server: HipChatServer,
    tool: Callable[[str], str],
) -> None:
    """Run a scenario on one agent, and see that nothing of it stays behind."""
    for program in kind.programs:
        tool(program)
    room = server.room()
    agent = kind(home, room)
    try:
        agent.start()
        scenario(agent)
        agent.end(signal.SIGTERM)
        agent.wait(lambda: not agent.processes())
        agent.wait(lambda: not agent.site.couriers())
    finally:
        agent.clear()
    assert room.faults == []


@pytest.mark.parametrize("kind", AGENTS, ids=lambda kind: kind.name)
def test_the_room_hears_exactly_the_changes(
    runs: Callable[[Scenario, type[Agent]], None], kind: type[Agent]
) -> None:
    runs(flips, kind)


@pytest.mark.parametrize(("scenario", "kind"), _PAIRS)
def test_the_room_hears_the_truth_once(
    runs: Callable[[Scenario, type[Agent]], None],
    request: pytest.FixtureRequest,
    scenario: Scenario,
    kind: type[Agent],
) -> None:
    if not request.config.getoption("--agents"):
        pytest.skip("real agents fail only with --agents")
    runs(scenario, kind)
