"""What a backlog costs: one request while much waits, and a flush."""

from __future__ import annotations

import json
import statistics
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

from measure import Row
from servers import Server, serving

if TYPE_CHECKING:
    from measure import Table
    from scratch import Scratch

BACKLOG = Path(__file__).parent / "backlog.py"
SIZES = (100, 10_000, 100_000)
CHANGES = 2000


def requests(scratch: Scratch, table: Table, _: int) -> None:
    """Measure the CPU of one request while little and while much waits."""
    command = [scratch.python, "-I", str(BACKLOG), *map(str, SIZES)]
    done = subprocess.run(command, check=True, capture_output=True)
    cpu = {int(size): statistics.median(times) for size, times in json.loads(done.stdout).items()}
    base = f"CPU of one digest, {SIZES[0]:,} waiting"
    table.add(Row(base, f"{cpu[SIZES[0]] * 1e3:.1f} ms"))
    for size in SIZES[1:]:
        ratio = cpu[size] / cpu[SIZES[0]]
        name = f"CPU of one digest, {size:,} waiting"
        table.add(Row(name, f"{cpu[size] * 1e3:.1f} ms", ratio, base, 1.5))


def flush(scratch: Scratch, table: Table, _: int) -> None:
    """Measure a flush of many changes, one message each."""
    with serving(Server()) as url:
        site = {**scratch.site("flush", url), "FLIPBELL_COURIER": "off"}
        lines = "".join(
            f"{json.dumps({'check': f'c{number}', 'status': 2})}\n" for number in range(CHANGES)
        )
        stream = [scratch.flipbell, "stream"]
        subprocess.run(stream, env=site, input=lines.encode(), check=True, capture_output=True)
        begun = time.perf_counter()
        subprocess.run([scratch.flipbell, "flush", "--timeout", "300"], env=site, check=True)
        taken = time.perf_counter() - begun
    table.add(Row(f"flush of {CHANGES:,} changes, seconds", f"{taken:.1f} s", taken, "", 10))
