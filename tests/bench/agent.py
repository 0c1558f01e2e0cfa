"""An agent that measures itself: run by flipbell's own interpreter, says one JSON object.

Builds its results before any clock starts.
"""

from __future__ import annotations

import gc
import json
import os
import random
import statistics
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pluggy

import flipbell
from flipbell import CheckResult, Status
from flipbell.hookspecs import AgentSpecs

if TYPE_CHECKING:
    from collections.abc import Callable

PROJECT = "benchmark"
A_HOST = 5  # checks
CALLS = 300_000


class Noop:
    """What a hook call costs by itself."""

    @pluggy.HookimplMarker(PROJECT)
    def flipbell_check_result(self, result: CheckResult) -> None:
        """Do nothing."""


def noop() -> pluggy.PluginManager:
    """Return a host whose only implementation does nothing."""
    manager = pluggy.PluginManager(PROJECT)
    spec = pluggy.HookspecMarker(PROJECT)
    hook = spec(AgentSpecs.flipbell_check_result)
    manager.add_hookspecs(type("Specs", (), {"flipbell_check_result": hook}))
    manager.register(Noop())
    return manager


def ours() -> pluggy.PluginManager:
    """Return a host with flipbell."""
    manager = pluggy.PluginManager(PROJECT)
    flipbell.attach(manager)
    return manager


def results(count: int) -> list[CheckResult]:
    """Return a result for each of so many checks, five a host, in no order."""
    now = time.time()
    made = [
        CheckResult(f"host-{number // A_HOST}", f"check-{number % A_HOST}", Status.OK, "fine", now)
        for number in range(count)
    ]
    random.shuffle(made)
    return made


def calls(count: str) -> dict[str, Any]:
    """Compare a call that changes nothing with one that does nothing; nanoseconds."""
    items = results(int(count))
    bare, host = noop(), ours()
    for item in items:
        host.hook.flipbell_check_result(result=item)
    until_recorded(host)
    rounds = max(7, CALLS // len(items))
    pairs = [(each(bare, items), each(host, items)) for _ in range(rounds)]
    built = [build(len(items)) for _ in range(3)]
    return {
        "noop": statistics.median(pair[0] for pair in pairs),
        "ours": statistics.median(pair[1] for pair in pairs),
        "ratio": statistics.median(pair[1] / pair[0] for pair in pairs),
        "building": statistics.median(built),
    }


def until_recorded(host: pluggy.PluginManager) -> None:
    """Wait until everything that was reported is in the spool."""
    mark = f"mark-{time.monotonic_ns()}"
    host.hook.flipbell_check_result(result=CheckResult("h", mark, Status.OK))
    spool = f"{os.environ['FLIPBELL_STATE']}/spool"
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            with open(spool, "rb") as file:
                file.seek(max(0, os.path.getsize(spool) - 200))
                if mark.encode() in file.read():
                    return
        except FileNotFoundError:
            pass
        time.sleep(0.01)
    raise TimeoutError(f"{spool}: not recorded")


def each(manager: pluggy.PluginManager, items: list[CheckResult]) -> float:
    """Report everything once; return nanoseconds a call."""
    call: Callable[..., object] = manager.hook.flipbell_check_result
    begun = time.perf_counter()
    for item in items:
        call(result=item)
    return (time.perf_counter() - begun) / len(items) * 1e9


def build(count: int) -> float:
    """Return the nanoseconds that building a result takes."""
    begun = time.perf_counter()
    for _ in range(count):
        CheckResult("host", "check", Status.OK, "fine", 1.0)
    return (time.perf_counter() - begun) / count * 1e9


def changes(count: str) -> dict[str, Any]:
    """Report with one change in a hundred, made durable by the end; calls a second."""
    items = results(int(count))
    host = ours()
    for item in items:
        host.hook.flipbell_check_result(result=item)
    until_recorded(host)
    rates = []
    for turn in range(7):
        status = Status.CRITICAL if turn % 2 == 0 else Status.OK
        now = time.time()
        batch = [
            CheckResult(item.host, item.check, status, "changed", now) if not n % 100 else item
            for n, item in enumerate(items)
        ]
        rates.append(1e9 / each(host, batch))
        until_recorded(host)
    return {"calls": statistics.median(rates)}


def memory(count: str) -> dict[str, Any]:
    """Return the bytes that knowing so many checks takes, over an idle plugin."""
    host = ours()
    host.hook.flipbell_check_result(result=CheckResult("h", "c", Status.OK))
    until_recorded(host)
    gc.collect()
    before = resident()
    for number in range(int(count)):
        result = CheckResult(f"host-{number // A_HOST}", f"check-{number % A_HOST}", Status.OK)
        host.hook.flipbell_check_result(result=result)
        if number % 1000 == 0:
            until_recorded(host)  # what waits to be written is not what is known
    until_recorded(host)
    gc.collect()
    return {"bytes": resident() - before}


def resident() -> int:
    """Return this process's resident memory in bytes."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def latency(seconds: str) -> dict[str, Any]:
    """Report 5,000 results a second, one in 200 a change; microseconds of each call."""
    items = results(1000)
    host = ours()
    call = host.hook.flipbell_check_result
    for item in items:
        call(result=item)
    time.sleep(1.0)
    statuses = [Status.CRITICAL, Status.OK]
    took, begun, pace = [], time.perf_counter(), 1 / 5000
    for number in range(int(float(seconds) * 5000)):
        item = items[number % len(items)]
        if number % 200 == 0:
            status = statuses[(number // 1000) % 2]
            item = CheckResult(item.host, item.check, status, "changed", time.time())
        while time.perf_counter() < begun + number * pace:
            pass
        before = time.perf_counter()
        call(result=item)
        took.append(time.perf_counter() - before)
    took.sort()
    parts = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999}
    return {name: took[int(len(took) * part)] * 1e6 for name, part in parts.items()}


def stalls(change: str) -> dict[str, Any]:
    """Let a loop tick while the configuration is at work; milliseconds that a tick came late."""
    host = ours()
    late: list[float] = []
    over = threading.Event()

    def loop() -> None:
        due = time.perf_counter()
        while not over.is_set():
            due += 0.001
            time.sleep(max(0.0, due - time.perf_counter()))
            late.append(time.perf_counter() - due)
            due = max(due, time.perf_counter() - 0.001)

    ticking = threading.Thread(target=loop)
    ticking.start()
    time.sleep(0.5)
    if change == "change":
        host.hook.flipbell_check_result(result=CheckResult("h", "c", Status.CRITICAL))
    time.sleep(2.0)
    over.set()
    ticking.join()
    return {"worst": max(late) * 1e3}


MEASURES = {
    "calls": calls,
    "changes": changes,
    "memory": memory,
    "latency": latency,
    "stalls": stalls,
}

if __name__ == "__main__":
    print(json.dumps(MEASURES[sys.argv[1]](sys.argv[2])), flush=True)
    os._exit(0)
