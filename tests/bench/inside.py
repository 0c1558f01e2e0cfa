"""What a long-running agent pays: hook calls, memory, and lines of a stream."""

from __future__ import annotations

import json
import statistics
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from measure import Row
from servers import every_kind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from measure import Table
    from scratch import Scratch

AGENT = Path(__file__).parent / "agent.py"
A_LINE = (
    '{"id": %d, "host": "host-%d", "check": "disk", "status": "OK",'
    ' "output": "DISK OK - free space: / 3326 MB (56%%)"}\n'
)


def agent(scratch: Scratch, site: Mapping[str, str], *words: str) -> Any:
    """Return what an agent has measured of itself."""
    command = [scratch.python, "-I", str(AGENT), *words]
    done = subprocess.run(command, env=dict(site), check=True, capture_output=True)
    return json.loads(done.stdout)


def hooks(scratch: Scratch, table: Table, rounds: int) -> None:
    """Measure hook calls, and what they leave in memory."""
    site = {**scratch.site("hooks", "http://127.0.0.1:1"), "FLIPBELL_COURIER": "off"}
    for count, bar in ((1_000, 1.25), (100_000, 1.60)):
        found = agent(scratch, site, "calls", str(count))
        name = f"hook call, nothing changed, {count:,} checks"
        base = f"no-op hook, {count:,} results"
        table.add(Row(base, f"{found['noop']:.0f} ns"))
        table.add(Row(name, f"{found['ours']:.0f} ns", found["ratio"], base, bar))
    table.add(Row("building a CheckResult, apart", f"{found['building']:.0f} ns"))
    rate = agent(scratch, site, "changes", "100000")["calls"]
    name = "hook calls a second, 100,000 checks, 1 % durable changes"
    table.add(Row(name, f"{rate:,.0f}", rate, "", 400_000, at_least=True))
    size = agent(scratch, site, "memory", "100000")["bytes"]
    table.add(Row("memory of 100,000 checks, MB", f"{size / 1e6:.1f} MB", size / 1e6, "", 15))
    with every_kind() as urls:
        for kind, url in urls.items():
            site = scratch.site(f"latency {kind}", url, per_minute=30)
            found = agent(scratch, site, "latency", str(max(2, rounds // 6)))
            shown = f"p50 {found['p50']:.1f} µs"
            table.add(
                Row(f"hook call at 5,000/s, HipChat {kind}, p99 µs", shown, found["p99"], "", 25)
            )
            table.add(
                Row(f"hook call at 5,000/s, HipChat {kind}, p99.9 µs", "", found["p99.9"], "", 100)
            )


def configuration(scratch: Scratch, table: Table, _: int) -> None:
    """Measure how late the agent's loop ticks while 1,000 channels are at work."""
    for name, change in (("nothing to deliver", "nothing"), ("a change", "change")):
        site = scratch.site("large", "http://127.0.0.1:1")
        channels = {
            f"c{n}": {"url": "http://127.0.0.1:1", "room": n, "token": "x"} for n in range(1000)
        }
        file = Path(site["FLIPBELL_CONFIG"]) / "ops.yaml"
        file.write_text(json.dumps({"channels": channels}, indent=1))
        worst = agent(scratch, site, "stalls", change)["worst"]
        table.add(Row(f"latest tick of a loop, 1,000 channels, {name}", f"{worst:.1f} ms"))


def stream(scratch: Scratch, table: Table, rounds: int) -> None:
    """Measure unchanged results through `flipbell stream`."""
    site = {**scratch.site("stream", "http://127.0.0.1:1"), "FLIPBELL_COURIER": "off"}
    lines = scratch.base / "lines"
    count = 30_000 * max(1, min(rounds, 10))
    lines.write_text("".join(A_LINE % (number, number % 1000) for number in range(count)))
    rates = []
    for _ in range(4):
        begun = time.perf_counter()
        with lines.open("rb") as stdin:
            command = [scratch.flipbell, "stream"]
            subprocess.run(command, env=site, stdin=stdin, stdout=subprocess.DEVNULL, check=True)
        rates.append(count / (time.perf_counter() - begun))
    rate = statistics.median(rates[1:])
    table.add(
        Row("stream, unchanged results a second", f"{rate:,.0f}", rate, "", 150_000, at_least=True)
    )
