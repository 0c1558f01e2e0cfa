"""The README, held to its word: every block is run, written or compared; none is skipped."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from conftest import FLIPBELL, ROOT, Process, unmeasured
from document import Shell, assert_shown, blocks, commands, is_for_root
from flipbell import config
from flipbell.channels.hipchat import HipChat
from hipchat_room import TOKEN

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Site
    from hipchat_room import HipChatRoom

README = ROOT / "README.md"
PLACEHOLDER = "https://hipchat.example.com"  # everybody writes their own server there
AGENT_CHAPTERS = ["mackerel-agent", "Nagios and Icinga"]
ROOTS_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PLUGINS = Path("/usr/lib/nagios/plugins")
# A machine on which nobody has installed anything yet: what the chapters write to is empty, or a
# copy, for as long as this shell lives.
CLEAN_MACHINE = """
set -e
for home in /opt /var/lib /usr/local/bin; do
    clean=$SCRATCH$home
    mkdir -p "$clean"
    for entry in "$home"/*; do
        case ${entry##*/} in flipbell*) continue ;; esac
        if [ -d "$entry" ]; then
            mkdir "$clean/${entry##*/}"
            mount --bind "$entry" "$clean/${entry##*/}"
        elif [ -e "$entry" ]; then
            cp -a "$entry" "$clean"
        fi
    done
    mount --rbind "$clean" "$home"
done
cp -a /etc "$SCRATCH/etc"
mount --bind "$SCRATCH/etc" /etc
id nagios >/dev/null 2>&1 || useradd --system --no-create-home nagios 2>/dev/null
mkdir -p /etc/mackerel-agent/conf.d
set +e
exec bash
"""


def _shell(
    command: list[str], directory: Path, environ: dict[str, str], room: HipChatRoom
) -> Iterator[Shell]:
    shell = Shell(command, directory, environ, {PLACEHOLDER: room.url}, TOKEN)
    yield shell
    shell.close()


@pytest.fixture
def user(site: Site, hipchat_room: HipChatRoom) -> Iterator[Shell]:
    """The shell of a new user, with flipbell on the path and nothing configured."""
    environ = {key: value for key, value in site.environ.items() if not key.startswith("FLIPBELL_")}
    scripts = sysconfig.get_path("scripts")
    environ.update(HOME=str(site.base), PATH=f"{scripts}:{environ['PATH']}")
    checkout = site.base / "checkout"
    checkout.mkdir()
    (checkout / ".venv").symlink_to(sys.prefix)
    site.state = site.base / "flipbell" / "state"  # so that its courier is ended with the test
    yield from _shell(["bash"], checkout, environ, hipchat_room)


@pytest.fixture
def root(checkout: Path, tmp_path: Path, hipchat_room: HipChatRoom) -> Iterator[Shell]:
    """Root's shell on a clean machine, in a checkout."""
    isolated = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    if os.geteuid() != 0 or subprocess.run([*isolated, "true"], check=False).returncode:
        pytest.skip("only root can have a machine of its own, and only where unshare works")
    if not PLUGINS.is_dir():
        pytest.skip("monitoring-plugins-basic is not installed")
    environ = {"PATH": ROOTS_PATH, "HOME": str(tmp_path), "LANG": "C.UTF-8", "PIP_QUIET": "3"}
    environ["SCRATCH"] = str(tmp_path)
    yield from _shell([*isolated, "bash", "-c", CLEAN_MACHINE], checkout, environ, hipchat_room)


def _is_install(content: str) -> bool:
    return content.startswith("$ python3 -m venv")


def _is_room(content: str) -> bool:
    return content.startswith("$ flipbell room\n")


def test_the_room_of_the_readme(tmp_path: Path) -> None:
    ((_, shown),) = [
        command
        for _, content in blocks(README, "The room")
        if _is_room(content)
        for command in commands(content)
    ]
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    command = [FLIPBELL, "room", "--port", port, "--state", str(tmp_path / "room")]
    with Process(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        said = b"".join(process.stdout.readline() for _ in shown.splitlines())
        os.kill(process.pid, signal.SIGINT)

        assert process.wait(timeout=20) == 0
        assert process.stdout.read() == b""
    assert_shown(shown.rstrip("\n").replace("8181", port), said.decode().rstrip("\n"))


def test_the_story_of_the_readme(user: Shell) -> None:
    for language, content in blocks(README):
        is_elsewhere = is_for_root(content) or _is_install(content) or _is_room(content)
        if language in ("yaml", "python") or (language == "console" and not is_elsewhere):
            user.take(language, content)
    assert _open_problems(user) == []  # no trial stays open in the operator's room


def _open_problems(shell: Shell, directory: str = '"$FLIPBELL_STATE"') -> list[object]:
    """Return the checks that are not OK, after what was recorded is taken."""
    shell.run(f"flipbell flush --state {directory}")
    failing = json.loads(shell.run(f"flipbell status --json --state {directory}"))["failing"]
    assert isinstance(failing, list)
    return failing


@pytest.mark.parametrize("chapter", AGENT_CHAPTERS)
def test_the_chapters_for_agents_on_a_clean_machine(
    root: Shell, hipchat_room: HipChatRoom, chapter: str
) -> None:
    # Twice, for the second upgrade has to be as safe as the first.
    upgrade = ["Upgrade, uninstall, backup"] * 2 * (chapter == AGENT_CHAPTERS[-1])
    for section in ("Install for an agent", chapter, *upgrade):
        definitions = []
        for language, content in blocks(README, section):
            if language == "console":
                assert is_for_root(content)
                root.take(language, content)
            else:
                definitions.append((language, content))
        for language, content in definitions:
            _try_definition(root, language, content)
    assert hipchat_room.statuses == ["CRITICAL", "OK"]  # what the chapter tries, once
    if upgrade:
        _try_upgrades_that_fail(root)


def _try_upgrades_that_fail(root: Shell) -> None:
    """See that neither a failed install nor a wrong configuration switches the link."""
    before = root.run("readlink /opt/flipbell")
    ((_, upgrade),) = blocks(README, "Upgrade, uninstall, backup")
    for fault in ("cd /", 'cd "$OLDPWD"; echo nonsense > /etc/flipbell/conf.d/ops.yaml'):
        root.run(fault)
        for command, _ in commands(upgrade):
            root.run(command)
        assert root.run("readlink /opt/flipbell") == before


def _try_definition(root: Shell, language: str, content: str) -> None:
    """Run what an agent's definition says, as the agent would."""
    if language == "nagios":
        line = re.findall(r"command_line +(.*)", content)[0]
    else:
        words = re.findall(r'"([^"]*)"', re.findall(r"command = (.*)", content)[0])
        line = " ".join(f"'{word}'" for word in words).replace("'/check", "'$USER1$/check")
        line += " -w 20% -c 10% -p /"  # as the imported command has them
    macros = {"$HOSTNAME$": "web-01", "$SERVICEDESC$": "disk", "$USER1$": str(PLUGINS)}
    macros |= {"$host.name$": "web-01", "$service.name$": "disk"}
    for macro, value in macros.items():
        line = line.replace(macro, value)
    script = shlex.quote(line)
    assert root.run(f"runuser -u nagios -- sh -c {script}").startswith("DISK ")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clean checkout, in a directory with a space in its name."""
    copy = tmp_path_factory.mktemp("a clean checkout")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=False,
        capture_output=True,
    )
    if listed.returncode:
        pytest.skip("this is no checkout")
    for name in filter(None, os.fsdecode(listed.stdout).split("\0")):
        if (ROOT / name).exists():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, copy / name)
    return copy


@pytest.mark.parametrize("number", [0, 1])
def test_the_commands_that_install(checkout: Path, number: int) -> None:
    """Both as printed; of all tests that the second runs, an option picks a few here."""
    installs = [content for _, content in blocks(README) if _is_install(content)]
    assert len(installs) == 2
    ((command, shown),) = commands(installs[number])
    environ = unmeasured(os.environ)
    environ.update(PYTEST_ADDOPTS="-k test_model", PATH=f"{_plain_python()}:{environ['PATH']}")

    done = subprocess.run(
        ["bash", "-c", command],
        cwd=checkout,
        env=environ,
        check=False,
        capture_output=True,
        encoding="utf-8",
        timeout=300,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert_shown(shown, done.stdout)


def _plain_python() -> str:
    """Return the directory of a python3 that is in no virtual environment."""
    return str(Path(sys.base_prefix) / "bin")


CONSULS_STATE = "/var/lib/flipbell-consul"  # which only root can make
HOOKS = sorted(file.parent.name for file in ROOT.glob("hooks/*/README.md"))


@pytest.mark.parametrize("agent", HOOKS)
def test_the_blocks_of_the_hooks(user: Shell, agent: str) -> None:
    user.run("export FLIPBELL_STATE=$PWD/state FLIPBELL_CONFIG=$PWD/conf.d")
    own = '"$PWD/own"'
    for language, content in blocks(ROOT / "hooks" / agent / "README.md"):
        if language == "console":
            if agent == "consul":
                assert content.count(f" --state {CONSULS_STATE}\n") == len(commands(content))
            user.take(language, content.replace(CONSULS_STATE, own))
        else:
            assert language == "python"
            (user.directory / "block.py").write_text(content)
            assert user.run("python block.py") == ""
    if agent not in ("pluggy", "systemd"):  # which try nothing
        assert _open_problems(user, own if agent == "consul" else '"$FLIPBELL_STATE"') == []


def test_the_example_configuration_is_without_problem() -> None:
    loaded = config.load(str(ROOT / "conf.d"), {"hipchat": HipChat()})

    assert [problem for problem in loaded.problems if "no such file" not in problem.message] == []
    assert sorted(loaded.channels) == ["developers", "ops"]


def test_every_key_is_in_the_reference_and_in_the_example() -> None:
    source = (ROOT / "plugin" / "flipbell" / "_channel.py").read_text()
    source += (ROOT / "plugin" / "flipbell" / "channels" / "hipchat.py").read_text()
    calls = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call))
    readers = ("text", "integer", "number", "one_of", "_statuses", "_texts", "_patterns")
    keys = {
        str(argument.value)
        for call in calls
        if getattr(call.func, "attr", getattr(call.func, "id", "")) in readers
        for argument in call.args[:2]
        if isinstance(argument, ast.Constant) and str(argument.value).isidentifier()
    } - {"host", "check"}
    reference = README.read_text().split("## Configuration")[1].split("\n## ")[0]

    assert {"url", "room", "send", "notify", "mention", "proxy"} <= keys
    assert [key for key in sorted(keys) if f"`{key}`" not in reference] == []


def test_every_variable_is_in_the_table() -> None:
    sources = [*(ROOT / "plugin").rglob("*.py"), ROOT / "plugin" / "bin" / "flipbell"]
    text = "".join(source.read_text(encoding="utf-8") for source in sources)
    names = set(re.findall(r"(?:FLIPBELL|XDG)_[A-Z_]*[A-Z]|NO_COLOR", text))
    table = README.read_text(encoding="utf-8").split("| variable | meaning |")[1].split("\n\n")[0]

    assert {"FLIPBELL_STATE", "FLIPBELL_LOG", "NO_COLOR"} <= names
    assert [name for name in sorted(names) if f"`{name}" not in table] == []


def test_nothing_in_the_project_names_the_machine_it_was_made_on() -> None:
    hooks = (file for file in ROOT.glob("hooks/**/*.*") if file.suffix != ".pyc")
    for file in [README, *hooks, *ROOT.glob("conf.d/*")]:
        assert not re.search(r"(^|[^\w.])/(work|root)/", file.read_text(encoding="utf-8"))


def test_the_japanese_quick_start_shows_what_the_readme_shows() -> None:
    shown = blocks(ROOT / "README.ja.md")

    assert len(shown) >= 5
    assert [block for block in shown if block not in blocks(README)] == []


def test_the_index_of_the_hooks_names_each_folder() -> None:
    index = (ROOT / "hooks" / "README.md").read_text(encoding="utf-8")

    assert {path.parent.name for path in ROOT.glob("hooks/*/*")} == set(HOOKS)
    assert [agent for agent in HOOKS if f"({agent}/README.md)" not in index] == []


@pytest.mark.parametrize(
    "name",
    [
        "README.md",
        "README.ja.md",
        "hooks/README.md",
        *(f"hooks/{hook}/README.md" for hook in HOOKS),
    ],
)
def test_every_link_leads_somewhere(name: str) -> None:
    file = ROOT / name
    text = file.read_text(encoding="utf-8")
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}

    for link in re.findall(r"\]\(([^)]+)\)", text):
        path, _, anchor = link.partition("#")
        assert "://" in link or (file.parent / path).exists(), link
        assert path or anchor in anchors, link
