"""Calls recorded from real agents: what they gave to a check, a notifier or a hook."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

DATA = Path(__file__).parent / "data"


def calls(name: str) -> list[dict[str, Any]]:
    """Return the recorded calls, an environment's bytes that are no UTF-8 as Python has them."""
    found = []
    for line in (DATA / f"{name}.jsonl").read_text(encoding="utf-8").splitlines():
        call = json.loads(line)
        raw = call.pop("raw_env_nonutf8", {}).items()
        odd = {key: text.encode("latin-1").decode("utf-8", "surrogateescape") for key, text in raw}
        if "env" in call:
            call["env"] = {**call["env"], **odd}
        found.append(call)
    return found


def names() -> list[str]:
    """Return the name of every recording, `AGENT--CALL`."""
    return sorted(file.stem for file in DATA.glob("*--*.jsonl"))
