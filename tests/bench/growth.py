"""What grows with what is stored or waits: the history, a commit beside readers, a long spool."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from typing import TYPE_CHECKING

from measure import Row

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from subprocess import Popen

    from measure import Table
    from scratch import Scratch

HISTORY = 1_000_000  # changes
WAITING = 100_000  # changes, and lines of a spool
PAUSE = 0.01  # seconds between two commits beside a reader

# Each is run by the flipbell that is measured, on the state of a site.
_FILL = f"""
import os, sys, time
from flipbell import state
from flipbell.ledger import Ledger
state.prepare(os.environ["FLIPBELL_STATE"])
ledger = Ledger.open(os.environ["FLIPBELL_STATE"])
count, waiting, now = {HISTORY}, {WAITING}, time.time()
output = "DISK CRITICAL - free space: / 3326 MB (5%), /var 120 MB (1%), /home 9 GB (12%)"
with ledger.transaction():
    ledger.set("config", os.environ["FLIPBELL_CONFIG"])
    ledger.enroll("ops", count - waiting)
    ledger._db.executemany(
        "INSERT INTO transitions (host, name, previous, status, output, occurred_at)"
        " VALUES (?, ?, 0, 2, ?, ?)",
        ((f"web-{{n % 1000}}", f"check-{{n % 97}}", output, now - (count - n) * 2.0)
         for n in range(count)),
    )
    ledger._db.execute(
        "INSERT INTO deliveries (channel, transition, state, notify, reason, first_try, last_try)"
        " SELECT 'ops', id, CASE WHEN id % 10 THEN 'delivered' ELSE 'dead' END, 1, '',"
        " occurred_at, occurred_at FROM transitions WHERE id <= ?", [count - waiting],
    )
    ledger._db.execute(
        "INSERT INTO checks SELECT host, name, 2, max(occurred_at) FROM transitions"
        " GROUP BY host, name"
    )
ledger.close()
"""
_COMMIT = f"""
import os, sys, threading, time
from flipbell.ledger import Ledger
ledger = Ledger.open(os.environ["FLIPBELL_STATE"])
print(flush=True)
worst = 0.0
over = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(1), over.set())).start()
while not over.wait({PAUSE}):
    begun = time.perf_counter()
    with ledger.transaction():
        ledger.set("late", 1)
    worst = max(worst, time.perf_counter() - begun)
print(worst)
"""
_SPOOL = f"""
import os
from flipbell import spool, state
directory = os.environ["FLIPBELL_STATE"]
state.prepare(directory)
file = state.open_private(directory, state.SPOOL, os.O_RDWR)
os.write(file, spool.header(spool.START))
with open(file, "ab") as lines:
    for n in range({WAITING}):
        host, check = b"web-%d" % (n % 1000), b"check-%d" % (n // 1000)
        lines.write(spool.encode(host, check, 2, b"DISK CRITICAL - 3% free", 1.7e9 + n))
"""


# By a small process of its own: the memory of a process counts from that of the one it was forked
# from, which here has grown.
_MEASURE = """
import os, subprocess, sys, time
begun = time.perf_counter()
null = subprocess.DEVNULL
process = subprocess.Popen(sys.argv[1:], stdin=null, stdout=null, stderr=null)
usage = os.wait4(process.pid, 0)[2]
print(time.perf_counter() - begun, usage.ru_maxrss / 1024)
"""


def growth(scratch: Scratch, table: Table, _: int) -> None:
    """Measure what a long history and a long spool cost."""
    site = scratch.site("growth", "http://127.0.0.1:1")
    _python(scratch, site, _FILL)
    started = _best([scratch.python, "-I", "-c", "pass"], site)[0]
    for words in (["--limit", "5"], ["--since", "1m"]):
        took, size = _best([scratch.flipbell, "history", *words], site)
        name = f"history {' '.join(words)} of {HISTORY:,}"
        table.add(Row(f"{name}, beyond a start, s", f"{took:.3f} s", took - started, "", 0.3))
        table.add(Row(f"{name}, memory, MB", f"{size:.1f} MB", size, "", 40))
    for words in (
        ["--version"],  # which reads nothing: what the machine itself adds
        ["history", "--host", "none", "--limit", "5"],
        ["history", "--since", "1h"],
        ["status", "--json"],
        ["status", "--format", "prometheus"],
        ["dead", "list", "--json"],
        ["explain", "web-1", "check-1", "OK"],
    ):
        worst = _worst_commit(scratch, site, words)
        name = f"longest commit beside {' '.join(words)}, s"
        table.add(Row(name, f"{worst * 1e3:.0f} ms", worst, "", 0.1))
    _intake(scratch, table)


def _python(scratch: Scratch, site: Mapping[str, str], code: str) -> None:
    subprocess.run([scratch.python, "-I", "-c", code], env=dict(site), check=True)


def _best(command: list[str], site: Mapping[str, str]) -> tuple[float, float]:
    """Return the seconds and the megabytes that a command takes: the best of five."""
    runs = [_measured(command, site) for _ in range(5)]
    return min(took for took, _ in runs), min(size for _, size in runs)


def _measured(command: list[str], site: Mapping[str, str]) -> tuple[float, float]:
    launcher = [sys.executable, "-I", "-c", _MEASURE, *command]
    done = subprocess.run(launcher, env=dict(site), check=True, capture_output=True, text=True)
    took, size = map(float, done.stdout.split())
    return took, size


def _worst_commit(scratch: Scratch, site: Mapping[str, str], words: list[str]) -> float:
    """Return the longest commit of a courier while a command reads again and again (seconds)."""
    with _committing(scratch, site) as courier:
        for _ in range(3):
            _measured([scratch.flipbell, *words], site)
        said, _ = courier.communicate("x")
    return float(said)


@contextlib.contextmanager
def _committing(scratch: Scratch, site: Mapping[str, str]) -> Iterator[Popen[str]]:
    pipe = subprocess.PIPE
    command = [scratch.python, "-I", "-c", _COMMIT]
    with subprocess.Popen(command, env=dict(site), stdin=pipe, stdout=pipe, text=True) as courier:
        assert courier.stdout is not None
        courier.stdout.readline()
        yield courier


def _intake(scratch: Scratch, table: Table) -> None:
    """Measure a courier that finds a long spool, and no channel to tell."""
    site = scratch.site("intake", "http://127.0.0.1:1", send=[])
    _python(scratch, site, _SPOOL)
    took, size = _measured([scratch.flipbell, "flush", "--timeout", "600"], site)
    name = f"a spool of {WAITING:,} lines taken"
    table.add(Row(f"{name}, s", f"{took:.1f} s", took, "", 20))
    table.add(Row(f"{name}, memory, MB", f"{size:.1f} MB", size, "", 80))
