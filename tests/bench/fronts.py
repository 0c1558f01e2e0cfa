"""What a result costs by each way of telling it, and a check that writes a gigabyte."""

from __future__ import annotations

import itertools
import os
import statistics
import subprocess
import time
from typing import TYPE_CHECKING

from inside import A_LINE, agent
from measure import Row, interleaved
from outside import BARE, ISOLATED, settle
from scratch import CHECK
from servers import Server, serving

if TYPE_CHECKING:
    from collections.abc import Mapping

    from measure import Subject, Table
    from scratch import Scratch

GIGABYTE = 1 << 30
_BLOCK = 1 << 16  # bytes that an agent reads at once
_FEW = 5  # rounds of what takes seconds
_LINES = 200_000


def output(scratch: Scratch, table: Table, rounds: int) -> None:
    """Measure a gigabyte of a check's output, which the agent reads as it comes."""
    site = {**scratch.site("output", "http://127.0.0.1:1"), "FLIPBELL_COURIER": "off"}
    writes = ["head", "-c", str(GIGABYTE), "/dev/zero"]
    wrapped = [scratch.flipbell, "run", "--check", "large", "--", *writes]
    bare, ours = "1 GB of a check's output, read by the agent", "the same through flipbell run"
    used: dict[str, list[float]] = {bare: [], ours: []}
    subjects = {
        bare: read_all(writes, site, used[bare]),
        ours: read_all(wrapped, site, used[ours]),
    }
    found = interleaved(subjects, max(2, min(rounds, _FEW)), "output")
    table.add(found.row(bare))
    table.add(found.row(ours, bare, 1.5))
    shares = [one / other for one, other in zip(used[ours], used[bare], strict=True)]
    shown = f"{statistics.median(used[ours]):.2f} s"
    table.add(
        Row("its processor time, the agent's included", shown, statistics.median(shares), bare)
    )


def read_all(command: list[str], environ: Mapping[str, str], used: list[float]) -> Subject:
    """Return a subject that reads all that a command writes; *used* gets its processor time."""

    def work() -> float:
        block = bytearray(_BLOCK)
        begun, before = time.perf_counter(), os.times()
        with subprocess.Popen(command, env=dict(environ), stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            while os.readv(process.stdout.fileno(), [block]):
                pass
        used.append(sum(os.times()[:4]) - sum(before[:4]))
        return time.perf_counter() - begun

    return work


def ways(scratch: Scratch, table: Table, rounds: int) -> None:
    """Measure the processor time that one result takes by each way, so what one core carries."""
    with serving(Server()) as url:
        site = scratch.site("ways", url)
        settle(scratch, site)
        site["FLIPBELL_COURIER"] = "off"
        # Apart, because while a change waits, no result is the short cut's.
        waiting = {**scratch.site("ways, changed", url), "FLIPBELL_COURIER": "off"}
        subjects = {
            BARE: processor([scratch.python, "-IS", "-c", "pass"], site),
            ISOLATED: processor([scratch.python, "-I", "-c", "pass"], site),
            f"run, unchanged, {os.path.basename(CHECK[0])} included": processor(
                scratch.wrapped(), site
            ),
        }
        for name, (arguments, environ) in unchanged().items():
            command = [scratch.flipbell, "report", "--from", name, *arguments]
            subjects[f"report --from {name}, unchanged"] = processor(command, {**site, **environ})
        line = scratch.base / "line"
        line.write_text('{"host": "web-01", "check": "dummy", "status": "OK"}')
        name = "report, JSON on stdin, unchanged"
        subjects[name] = processor([scratch.flipbell, "report"], site, str(line))
        subjects["report --from nagios, a change"] = changing(scratch, waiting)
        found = interleaved(subjects, rounds, "ways")
    for name in subjects:
        rate = 1 / found.median(name)
        ratio = None if name == BARE else found.ratio(name, BARE)
        is_short = name.startswith("report --from") and "unchanged" in name
        bar, base = 1.25 if is_short else None, "" if name == BARE else BARE
        table.add(Row(name, f"{found.shown(name)}, {rate:.0f}/s", ratio, base, bar))
    in_process(scratch, table)


def unchanged() -> dict[str, tuple[list[str], dict[str, str]]]:
    """Return how each agent that reports every result tells that all is as it was."""
    names = ["--host=web-01", "--check=dummy"]
    states = {"HOSTNAME": "web-01", "SERVICEDESC": "dummy", "SERVICESTATE": "OK"}
    options = ["--status=OK", "--state-type=HARD", "--type=", "--time=1", "--output=hello"]
    monit = {"EVENT": "Status succeeded", "SERVICE": "dummy", "PROGRAM_STATUS": "0"}
    return {
        "nagios": ([*names, *options], {}),
        "icinga2": ([], {f"ICINGA_{name}": value for name, value in states.items()}),
        "mackerel-agent": (names, {"MACKEREL_STATUS": "OK", "MACKEREL_CHECK_MESSAGE": "hello"}),
        "monit": (["--host=web-01"], {f"MONIT_{name}": value for name, value in monit.items()}),
        "plain": ([*names, "--status=OK", "--output=hello"], {}),
    }


def changing(scratch: Scratch, site: Mapping[str, str]) -> Subject:
    """Return a subject whose result is another one each time."""
    command = [scratch.flipbell, "report", "--from", "nagios", "--host=web-01", "--check=flips"]

    statuses = itertools.cycle(["WARNING", "CRITICAL"])

    def work() -> float:
        return processor([*command, f"--status={next(statuses)}", "--output=hello"], site)()

    return work


def processor(command: list[str], environ: Mapping[str, str], stdin: str = os.devnull) -> Subject:
    """Return a subject that measures the processor time of a command and of all it waits for."""

    def work() -> float:
        actions: list[tuple[int | str, ...]] = [(os.POSIX_SPAWN_OPEN, 0, stdin, os.O_RDONLY, 0)]
        actions += [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
        actions += [(os.POSIX_SPAWN_DUP2, 1, 2)]
        pid = os.posix_spawn(command[0], command, environ, file_actions=actions)
        _, status, usage = os.wait4(pid, 0)
        assert status == 0, command
        return usage.ru_utime + usage.ru_stime

    return work


def in_process(scratch: Scratch, table: Table) -> None:
    """Add what an agent can report in a second without a process for each result."""
    site = {**scratch.site("in process", "http://127.0.0.1:1"), "FLIPBELL_COURIER": "off"}
    lines = scratch.base / "lines of a stream"
    lines.write_text("".join(A_LINE % (number, number % 1000) for number in range(_LINES)))
    stream = processor([scratch.flipbell, "stream"], site, str(lines))
    seconds = statistics.median([stream() for _ in range(_FEW)][1:]) / _LINES
    table.add(Row("a line of stream, unchanged", f"{seconds * 1e6:.2f} µs, {1 / seconds:,.0f}/s"))
    seconds = agent(scratch, site, "calls", "1000")["ours"] / 1e9
    name = "a hook call, nothing changed, 1,000 checks"
    table.add(Row(name, f"{seconds * 1e6:.2f} µs, {1 / seconds:,.0f}/s"))
