"""The command line helps: in groups, with one suggestion for a typo, with words for a mistake."""

from __future__ import annotations

import argparse
import importlib
import os
import re
from typing import TYPE_CHECKING, Any

import pytest

import flipbell
from flipbell import cli
from flipbell.cli.help import GROUPS, grouped

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Site
    from hipchat_room import HipChatRoom


def _parsers() -> dict[str, argparse.ArgumentParser]:
    """Return the parser of each command but `run`, which has none."""
    commands = argparse.ArgumentParser().add_subparsers()
    for module in dict.fromkeys(cli._MODULES.values()):
        importlib.import_module(f"flipbell.cli.{module}").add_to(commands)
    return dict(commands.choices)


def test_each_command_is_in_one_group() -> None:
    names = [name for _, group in GROUPS for name in group]

    assert sorted(names) == sorted(["run", *_parsers()])


def test_a_command_without_a_group_is_still_shown() -> None:
    assert "\nOthers:\n  new           do it\n" in grouped(
        {"run": "Run.", "new": "Do it."}, "About."
    )


@pytest.mark.parametrize("arguments", [[], ["help"], ["--help"], ["-h"]])
def test_without_a_command_there_is_a_short_help_in_groups(
    site: Site, arguments: list[str]
) -> None:
    done = site.flipbell(*arguments)

    text = done.stdout.decode()
    assert done.stderr == b""
    # An agent's empty command must not be taken for OK.
    assert done.returncode == (0 if arguments else 2)
    assert text.startswith("usage: flipbell COMMAND")
    assert len(text.splitlines()) <= 40
    assert max(map(len, text.splitlines())) <= 100
    for title, names in GROUPS:
        assert f"\n\n{title}:\n  {names[0]} " in text
    for name in ["run", *_parsers()]:
        assert re.search(rf"^  {name} +\w", text, re.MULTILINE)


@pytest.mark.parametrize("command", ["status", "test", "run"])
def test_the_help_of_a_command(site: Site, command: str) -> None:
    done = site.flipbell("help", command)

    assert done.returncode == 0
    assert done.stdout == site.flipbell(command, "--help").stdout
    assert f"example: flipbell {command}".encode() in done.stdout


def test_version_is_a_command_as_well(site: Site) -> None:
    assert site.flipbell("version").stdout.decode() == f"flipbell {flipbell.__version__}\n"


@pytest.mark.parametrize(
    ("typo", "hint"),
    [
        ("stauts", "no command 'stauts', did you mean 'status'?"),
        ("rnu", "no command 'rnu', did you mean 'run'?"),
        ("hepl", "no command 'hepl', did you mean 'help'?"),
        ("help hisotry", "no command 'hisotry', did you mean 'history'?"),
        ("nonsense", "no command 'nonsense'; flipbell help lists them"),
        ("status --jsno", "unrecognized arguments: --jsno, did you mean '--json'?"),
        ("history --chanel=ops", "arguments: --chanel=ops, did you mean '--channel'?"),
        ("--verson", "unrecognized arguments: --verson, did you mean '--version'?"),
        ("status --zzz", "unrecognized arguments: --zzz\n"),
        ("hooks nagois", "zabbix, did you mean 'nagios'?"),
        ("hooks zzz", "no hook for zzz; there are: alertmanager, "),
        ("report --from nagois", "zabbix, did you mean 'nagios'?"),
        ("dead lst", "expected list, retry or dismiss, got 'lst', did you mean 'list'?"),
        ("status --format JSON", "or prometheus, got 'JSON', did you mean 'json'?"),
        ("room --port abc", "--port: expected a whole number from 0 to 65535, got 'abc'"),
        ("room --port 65536", "--port: expected a whole number from 0 to 65535, got '65536'"),
        ("flush --timeout x", "--timeout: expected seconds from 0 to 10000000, got 'x'"),
        ("dead retry x", "id: expected a whole number from 1 to"),
        ("report --time noon", "--time: expected seconds since the epoch, got 'noon'"),
    ],
)
def test_a_typo_gets_one_line_with_at_most_one_suggestion(site: Site, typo: str, hint: str) -> None:
    done = site.flipbell(*typo.split())

    shown = done.stderr.decode()
    assert (done.returncode, done.stdout) == (2, b"")
    assert hint in shown
    assert shown.count("\n") == 1
    assert shown.count("did you mean") <= 1


def _typed_options() -> Iterator[tuple[str, argparse.Action]]:
    for name, parser in _parsers().items():
        for action in parser._actions:
            if action.type is not None:
                yield f"{name} {action.dest}", action


def test_every_option_says_in_words_what_it_expects() -> None:
    actions = dict(_typed_options())

    assert {"flush timeout", "room port", "dead id", "history limit"} <= set(actions)
    for action in actions.values():
        assert callable(action.type)
        with pytest.raises(argparse.ArgumentTypeError, match=r"^expected "):
            action.type("no such thing")


def test_no_option_is_taken_for_another_that_it_abbreviates(site: Site) -> None:
    assert not any(parser.allow_abbrev for parser in _parsers().values())
    done = site.flipbell("status", "--js")

    assert done.returncode == 2
    assert b"unrecognized arguments: --js" in done.stderr


def test_what_is_required_is_said_and_no_more(site: Site) -> None:
    assert site.flipbell("dead").stderr.endswith(b"are required: action\n")


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_closed_pipe_is_no_error(site: Site, stream: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    options: dict[str, Any] = {"capture_output": False, "stdout": writing, "stderr": writing}

    done = site.flipbell("help" if stream == "stdout" else "nonsense", **options)
    os.close(writing)

    assert done.returncode == (0 if stream == "stdout" else 2)


# explain, of a check without a result


@pytest.mark.parametrize(
    ("host", "check", "shown"),
    [
        ("web-01", "dsik", "dsik on web-01 was never seen, did you mean 'disk on web-01'? This is"),
        ("web-1", "disk", "disk on web-1 was never seen, did you mean 'disk on web-01'? This is"),
        ("db", "backup", "backup on db was never seen. This is what its first result would do:"),
        ("a\nb", "c", "c on a\\nb was never seen. This is"),
    ],
)
def test_explain_says_that_a_check_was_never_seen(
    site: Site, hipchat_room: HipChatRoom, host: str, check: str, shown: str
) -> None:
    site.environ["FLIPBELL_COURIER"] = "off"
    site.channel(hipchat_room.url)
    site.run("disk", 0)
    site.deliver()

    done = site.flipbell("explain", host, check, "CRITICAL")

    first, second = done.stdout.decode().splitlines()
    assert first.startswith(shown)
    assert second == "ops  told, rings  a new problem"
    assert done.returncode == 0


def test_explain_says_nothing_of_it_about_a_check_with_a_result(
    site: Site, hipchat_room: HipChatRoom
) -> None:
    site.environ["FLIPBELL_COURIER"] = "off"
    site.channel(hipchat_room.url)
    before = site.flipbell("explain", "web-01", "disk", "OK").stdout.decode()
    site.run("disk", 2)
    waiting = site.flipbell("explain", "web-01", "disk", "OK").stdout.decode()
    site.deliver()
    after = site.flipbell("explain", "web-01", "disk", "OK").stdout.decode()
    as_json = site.flipbell("explain", "web-01", "disk", "OK", "--json").stdout

    assert before.startswith("disk on web-01 was never seen. This is")
    assert waiting.startswith("disk on web-01 was not seen yet, but results wait: run flipbell")
    assert after == "ops  told, silently  all is well again\n"
    assert b'"seen": true' in as_json
