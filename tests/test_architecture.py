"""The one-way flow, held by who may import whom, and what a front must never load."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import flipbell
from conftest import unmeasured
from flipbell.agents import BUILT_IN

PACKAGE = Path(flipbell.__file__).parent

# From what the rest stands on to what stands on everything. A module imports only from the lines
# above its own; in the first lines, and among the commands, from its own line as well.
LAYERS = [
    {"model", "places", "state", "log", "wording", "surroundings", "zones", "perfdata", "ownership"}
    | {"child", "relay", "flood", "remains", "quiet", "fifo", "detach"},
    {"unit", "unfinished"},
    {"_yaml", "spool", "summon", "stamps", "stored"},
    {"recorder", "hookspecs", "orders"},
    {"identity"},
    {"aside", "memory", "routing", "message", "retry", "agents", "channels", "channels.token"}
    | {"channels.failure", "agents.given", "agents.glance"},
    {"agents.states", "agents.plain", "agents.json_result", "agents.mackerel_agent", "agents.sauna"}
    | {"agents.collectd", "agents.mon", "agents.monit", "agents.netdata", "agents.zabbix"},
    {"agents.alertmanager", "agents.checkmk", "agents.consul", "agents.icinga2"}
    | {"agents.mackerel_webhook", "agents.nagios", "agents.sensu"},
    {"channels.hipchat"},
    {"extensions"},
    {"_channel", "_database", "digest"},
    {"outbox", "roster", "rates"},
    {"pages"},
    {"ledger"},
    {"config", "binding", "trial", "succession"},
    {"rooms"},
    {"settling"},
    {"turns", "reset", "unclosed"},
    {"dispatch"},
    {"courier", "look", "run", "report", "explain", "open_problems"},
    {"plugin"},
    {"agents.agent_check"},
    {"room"},
    {"room.refusal", "room.sanitise", "room.patience"},
    {"room.contract", "room.limits", "room.store"},
    {"room.keys"},
    {"room.api", "room.watch", "room.opening"},
    {"room.app"},
    {"room.server"},
    {"cli"},
    {"__main__"},
]
# What the fronts may know of: how to record. No configuration, no ledger, no routing.
FRONTS = {"run", "report", "quiet", "aside", "memory", "recorder", "cli.report", "cli.stream"}
BEHIND_THE_SPOOL = {
    *("_database", "outbox", "pages", "ledger", "config", "rooms", "routing", "settling", "turns"),
}
BEHIND_THE_SPOOL |= {"courier", "channels.hipchat"}


def _modules() -> dict[str, Path]:
    found = {}
    for file in PACKAGE.rglob("*.py"):
        name = ".".join(file.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")
        if name != "__init__":
            found[name] = file
    return found


def _imports(file: Path) -> set[str]:
    """Return the modules of flipbell that a module imports, lazily or not."""
    found: set[str] = set()
    for node in _run_time(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
            assert not [name for name in names if name.startswith("flipbell.")], "from … import"
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("flipbell"):
            home = (node.module or "").removeprefix("flipbell").removeprefix(".")
            for alias in node.names:
                inner = f"{home}.{alias.name}".removeprefix(".")
                found.add(inner if inner in _modules() else home)
    return found - {""}


def _run_time(tree: ast.AST) -> list[ast.AST]:
    """Return every node that is not under `if TYPE_CHECKING`."""
    found: list[ast.AST] = []
    for node in ast.iter_child_nodes(tree):
        if not (isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"):
            found += [node, *_run_time(node)]
    return found


def _layer(module: str) -> int:
    for number, layer in enumerate(LAYERS):
        if module in layer or (module.startswith("cli") and "cli" in layer):
            return number
    raise AssertionError(f"{module} has no place in LAYERS: say where it belongs")


@pytest.mark.parametrize("module", sorted(_modules()))
def test_imports_point_one_way(module: str) -> None:
    registries = {("agents", "agents.")}  # names its own formats, lazily

    for imported in _imports(_modules()[module]):
        if any(module == home and imported.startswith(inner) for home, inner in registries):
            continue
        own_line = _layer(imported) == _layer(module)
        assert _layer(imported) <= _layer(module), f"{module} imports {imported}"
        assert not own_line or module.startswith("cli") or _layer(module) <= 7, (
            f"{module} and {imported} stand side by side"
        )


@pytest.mark.parametrize("front", sorted(FRONTS))
def test_a_front_knows_nothing_behind_the_spool(front: str) -> None:
    assert not _imports(_modules()[front]) & BEHIND_THE_SPOOL


@pytest.mark.parametrize(
    "module",
    ["run", "report", "recorder", "spool", "memory", "cli.report", "cli.stream"]
    + [f"agents.{name.replace('-', '_')}" for name in BUILT_IN if name != "json"],
)
def test_a_front_loads_neither_yaml_nor_requests(module: str) -> None:
    heavy = {"yaml", "requests", "sqlite3"}
    code = f"import flipbell.{module}, sys; print({heavy} & {{*sys.modules}})"

    done = subprocess.run(
        [sys.executable, "-c", code], env=unmeasured(os.environ), check=True, capture_output=True
    )

    assert done.stdout == b"set()\n"


# What an agent calls its variables, its fields, its occasions.
KNOWN_TO_AGENTS = ["MACKEREL_", "NAGIOS_", "NOTIFY_", "MONIT_", "MON_", "COLLECTD_", "CheckID"]
KNOWN_TO_AGENTS += ["alertname", "occurrences", "monitorName", "NSEVERITY", "ACKNOWLEDGE"]


def test_agents_alone_know_agents() -> None:
    for module, file in _modules().items():
        text = file.read_text(encoding="utf-8")
        if not module.startswith("agents"):
            assert [word for word in KNOWN_TO_AGENTS if word in text] == [], module


def test_report_loads_the_one_format_that_is_asked_for() -> None:
    code = (
        "import flipbell.agents, sys; flipbell.agents.built_in('nagios');"
        "print(sorted(name for name in sys.modules if name.startswith('flipbell.agents.')))"
    )

    done = subprocess.run(
        [sys.executable, "-c", code], env=unmeasured(os.environ), check=True, capture_output=True
    )

    assert done.stdout == b"['flipbell.agents.nagios', 'flipbell.agents.states']\n"


def test_every_module_says_in_a_sentence_what_it_is_for() -> None:
    for module, file in _modules().items():
        said = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8")))
        assert said, module
        assert said.split("\n\n")[0].endswith("."), module
