"""Measure what flipbell costs, against floors and peers that are measured beside it.

    python tests/bench [--rounds N] [--only PART ...] [--json]

Everything is installed into scratch environments, and all traffic stays on loopback.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import platform
import sys
import tempfile
from pathlib import Path

import fronts
import growth
import inside
import outside
import queues
from measure import Table
from scratch import CHECK, Scratch, surroundings

PARTS = {
    "unchanged": outside.unchanged,
    "instructions": outside.instructions,
    "changed": outside.changed,
    "storm": outside.storm,
    "hooks": inside.hooks,
    "configuration": inside.configuration,
    "stream": inside.stream,
    "requests": queues.requests,
    "flush": queues.flush,
    "output": fronts.output,
    "ways": fronts.ways,
    "growth": growth.growth,
}


def main() -> int:
    """Measure, and print a table; bars that are missed are shown, and are no error."""
    parser = argparse.ArgumentParser(prog="python tests/bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=60, help="rounds of each part (default: 60)")
    parser.add_argument("--only", nargs="+", choices=PARTS, metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")
    options = parser.parse_args()
    if not Path(CHECK[0]).exists():
        parser.error(f"{CHECK[0]} is missing: install monitoring-plugins-basic")
    table = Table()
    with tempfile.TemporaryDirectory(prefix="flipbell-bench-") as base:
        scratch = Scratch(Path(base))
        notes = list(surroundings(scratch))
        for name in options.only or PARTS:
            PARTS[name](scratch, table, options.rounds)
    if options.json:
        rows = [{**dataclasses.asdict(row), "verdict": row.verdict} for row in table.rows]
        print(json.dumps({"notes": notes, "rows": rows}))
    else:
        print(
            f"Python {platform.python_version()}, {options.rounds} rounds", *notes, sep="\nnote: "
        )
        print(f"\n{table.text()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
