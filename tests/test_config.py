"""The configuration: what it gives, and where exactly it is wrong."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from flipbell import config
from flipbell.channels.hipchat import HipChat, HipChatSettings, Token
from flipbell.model import Channel, Pattern, Status

if TYPE_CHECKING:
    from pathlib import Path

OK, WARNING, CRITICAL, UNKNOWN = Status
MINIMAL = "url: https://h, room: 1, token_file: /t"


def _load(directory: Path, *texts: str | bytes) -> config.Config:
    """Load texts as files a.yaml, b.yaml, and so on."""
    for name, text in zip("abc", texts, strict=False):
        content = text.encode() if isinstance(text, str) else text
        (directory / f"{name}.yaml").write_bytes(content)
    return config.load(str(directory), {"hipchat": HipChat()})


def _channel(directory: Path, keys: str) -> Channel:
    """Load a channel that has these keys beside the minimal ones."""
    loaded = _load(directory, f"channels:\n  ops: {{{MINIMAL}, {keys}}}\n")
    assert [str(problem) for problem in loaded.errors] == []
    return loaded.channels["ops"]


def _problems(directory: Path, *texts: str | bytes) -> list[str]:
    loaded = _load(directory, *texts)
    return [str(problem).replace(f"{directory}/", "") for problem in loaded.problems]


def test_a_minimal_channel_has_defaults(tmp_path: Path) -> None:
    channel = _channel(tmp_path, "")

    assert channel.send == set(Status)
    assert channel.notify == {WARNING, CRITICAL, UNKNOWN}
    assert channel.color == {OK: "green", WARNING: "yellow", CRITICAL: "red", UNKNOWN: "gray"}
    assert channel.match == (Pattern("*", "*"),)
    assert (channel.format, channel.sender, channel.per_minute) == ("html", "flipbell", 30)
    assert channel.settings == HipChatSettings("https://h", "1", Token(file="/t"))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("true", {OK, WARNING, CRITICAL, UNKNOWN}),
        ("no", set()),
        ("[critical, OK]", {OK, CRITICAL}),
        ("{ok: true, Critical: off}", {OK, WARNING, UNKNOWN}),
        ("{}", {WARNING, CRITICAL, UNKNOWN}),
    ],
)
def test_notify(tmp_path: Path, value: str, expected: set[Status]) -> None:
    assert _channel(tmp_path, f"notify: {value}").notify == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("[warning, critical]", {WARNING, CRITICAL}),
        ("{unknown: false}", {OK, WARNING, CRITICAL}),
    ],
)
def test_send(tmp_path: Path, value: str, expected: set[Status]) -> None:
    assert _channel(tmp_path, f"send: {value}").send == expected


def test_every_other_key(tmp_path: Path) -> None:
    channel = _channel(
        tmp_path,
        "match: [{host: 'web-*'}, {check: disk}], exclude: [{host: web-9}], color: {ok: gray},"
        " from: ops team, format: text, message: '$status', mention: {critical: '@here'},"
        " per_minute: 0, timeout: 2.5, verify: /ca.pem, proxy: 'http://p:3128'",
    )

    assert channel.match == (Pattern("web-*", "*"), Pattern("*", "disk"))
    assert channel.exclude == (Pattern("web-9", "*"),)
    assert (channel.color[OK], channel.color[CRITICAL]) == ("gray", "red")
    assert (channel.sender, channel.format, channel.message) == ("ops team", "text", "$status")
    assert (channel.mention, channel.per_minute) == ({CRITICAL: "@here"}, 0)
    settings = channel.settings
    assert isinstance(settings, HipChatSettings)
    assert (settings.timeout, settings.verify, settings.proxy) == (2.5, "/ca.pem", "http://p:3128")


@pytest.mark.parametrize("url", ["https://h", "https://h/", "https://h/v2", "https://h/v2/"])
def test_url_with_or_without_v2(tmp_path: Path, url: str) -> None:
    loaded = _load(tmp_path, f"channels: {{ops: {{url: '{url}', room: a b, token_env: T}}}}")

    settings = loaded.channels["ops"].settings
    assert isinstance(settings, HipChatSettings)
    assert settings.endpoint == "https://h/v2/room/a%20b/notification"
    assert settings.token == Token(variable="T")


def test_defaults_are_shared_by_all_files(tmp_path: Path) -> None:
    loaded = _load(
        tmp_path,
        "defaults: {url: 'https://h', token_file: /t, notify: {ok: true, warning: false}}",
        "channels: {one: {room: 1}, two: {room: 2, token_env: T, notify: {warning: true}}}",
    )

    assert not loaded.problems
    assert loaded.channels["one"].notify == {OK, CRITICAL, UNKNOWN}
    assert loaded.channels["two"].notify == {OK, WARNING, CRITICAL, UNKNOWN}
    settings = loaded.channels["two"].settings
    assert isinstance(settings, HipChatSettings)
    assert settings.token == Token(variable="T")  # its own, though the defaults name a file


def test_all_problems_at_once_in_order(tmp_path: Path) -> None:
    text = """\
channels:
  ops:
    url: hipchat.example.com
    room: 0123
    token_file: relative
    notfy: true
    notify:
      critical: yess
      critcal: true
    color: {ok: grey}
    send: [ok, warn]
    per_minute: -1
    match: {host: web}
    exclude: [{hots: web}]
    message: "$statsu"
    mention: {ok: "@all"}
    verify: maybe
    timeout: soon
    type: hipchat
    format: markdown
"""

    assert _problems(tmp_path, text) == [
        "a.yaml:3:10: channels.ops.url: expected http:// or https:// and a host,"
        " got 'hipchat.example.com'",
        "a.yaml:4:11: channels.ops.room: YAML reads 0123 as another number; put it in quotes",
        "a.yaml:5:17: channels.ops.token_file: expected an absolute path, got 'relative'",
        "a.yaml:6:5: channels.ops.notfy: unknown key, did you mean 'notify'?",
        "a.yaml:8:17: channels.ops.notify.critical: expected true or false, got 'yess'",
        "a.yaml:9:7: channels.ops.notify: expected ok, warning, critical or unknown,"
        " got 'critcal', did you mean 'critical'?",
        "a.yaml:10:17: channels.ops.color.ok: expected yellow, green, red, purple, gray or random,"
        " got 'grey', did you mean 'gray'?",
        "a.yaml:11:16: channels.ops.send: expected ok, warning, critical or unknown,"
        " got 'warn', did you mean 'warning'?",
        "a.yaml:12:17: channels.ops.per_minute: expected a whole number from 0 to 10000, got -1",
        "a.yaml:13:12: channels.ops.match: expected a list, as in [{host: 'web-*', check: '*'}]",
        "a.yaml:14:16: channels.ops.exclude[0].hots: unknown key, did you mean 'host'?",
        "a.yaml:15:14: channels.ops.message: unknown $statsu, did you mean 'status'?",
        "a.yaml:16:14: channels.ops.mention: works only with `format: text`;"
        " HipChat pings nobody from HTML",
        "a.yaml:17:13: channels.ops.verify: expected true, false or the absolute path of a CA file:"
        " 'maybe'",
        "a.yaml:18:14: channels.ops.timeout: expected a number from 0.1 to 120, got 'soon'",
        "a.yaml:20:13: channels.ops.format: expected html or text, got 'markdown'",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("channels: {ops: {}}", ["a.yaml:1:17: channels.ops.url: required: your HipChat server"]),
        ("- 1", ["a.yaml:1:1: expected a mapping with `channels:`, got a list"]),
        ("channels: 5", ["a.yaml:1:11: channels: expected a mapping, got 5 (a number)"]),
        ("channels: {ops: }", ["a.yaml:1:17: channels.ops: expected a mapping, got nothing"]),
        ("chanels: {}", ["a.yaml:1:1: chanels: unknown key, did you mean 'channels'?"]),
        ("a: [", ["a.yaml:2:1: not valid YAML: "]),
        ("a: 1\n\tb: 2", ["a.yaml:2:1: not valid YAML: "]),
        ("a: &x 1\nb: *x", ["a.yaml:1:4: anchors and aliases (& and *) are not allowed"]),
        ("a: 1\n---\nb: 2", ["a.yaml:2:1: expected one document"]),
        ("[" * 50 + "]" * 50, ["a.yaml:1:21: nested deeper than 20 levels"]),
        (b"a: 1\nb: caf\xe9", ["a.yaml:2:7: expected UTF-8, got byte 0xe9"]),
        ("a: \0", ["a.yaml:1:1: not valid YAML: "]),
        ("channels: {a/b: {}}", ["a.yaml:1:12: channels.a/b: expected a name of letters"]),
        (
            "channels: {ops: {room: 1, room: 2}}",
            [
                "a.yaml:1:17: channels.ops.url: required",
                "a.yaml:1:17: channels.ops.token_file: required",
                "a.yaml:1:27: channels.ops.room: given before, on line 1",
            ],
        ),
        (
            "channels: {ops: {room: NO, url: 'https://u:p@h', token: x, token_env: y}}",
            [
                "a.yaml:1:24: channels.ops.room: expected a Room API ID or a room's name, got NO"
                " (a boolean); put it in quotes",
                "a.yaml:1:33: channels.ops.url: expected no user, password, ? or # in it",
                "a.yaml:1:57: channels.ops.token: expected one token, got token_env and token",
            ],
        ),
    ],
)
def test_problems(tmp_path: Path, text: str | bytes, expected: list[str]) -> None:
    found = _problems(tmp_path, text)

    assert len(found) >= len(expected)
    for problem, beginning in zip(found, expected, strict=False):
        assert problem.startswith(beginning)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ("proxy: 'http://['", "channels.ops.proxy: expected http:// or https:// and a host"),
        ("proxy: 'ftp://h'", "channels.ops.proxy: expected http:// or https:// and a host"),
        (f"per_minute: {'0' * 5000}", "channels.ops.per_minute: expected a whole number"),
        (f"per_minute: {'0' * 20}99999", "channels.ops.per_minute: expected a whole number"),
        ("from: !foo x", "channels.ops.from: expected text, got x (with a tag of its own)"),
        ("match: [web]", "channels.ops.match[0]: expected {host: …, check: …}, got 'web'"),
        ("mention: all", "channels.ops.mention: expected a map from status to a text"),
        ("from: ''", "channels.ops.from: expected text, got an empty one"),
        (f"from: {'x' * 65}", "channels.ops.from: expected at most 64 printable characters"),
        ("message: '$ 5'", "channels.ops.message: a $ that starts no name"),
        (f"message: '{'x' * 4001}'", "channels.ops.message: longer than 4000 characters"),
        ("token_env: x y", "channels.ops.token_env: expected one token"),
        ("? [a] : b", "channels.ops: expected a name, got a list"),
    ],
)
def test_more_problems(tmp_path: Path, keys: str, said: str) -> None:
    found = _problems(tmp_path, f"channels:\n  ops: {{{MINIMAL}, {keys}}}\n")

    assert any(said in problem for problem in found), found


def test_a_file_whose_name_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "ops.yaml").write_text("channels: {}")
    broken = os.fsencode(tmp_path) + b"/\xff.yaml"
    with open(broken, "w", encoding="utf-8") as file:
        file.write("[")

    loaded = config.load(str(tmp_path), {"hipchat": HipChat()})

    assert loaded.unreadable == {f"{tmp_path}/\\udcff.yaml"}
    str(loaded.problems[0]).encode()


def test_a_type_that_fails_takes_its_own_channel_down(tmp_path: Path) -> None:
    class Broken(HipChat):
        def read(self, _: object) -> None:
            raise RuntimeError("oops")

    text = f"channels: {{a: {{{MINIMAL}}}, b: {{type: pager}}}}"
    (tmp_path / "a.yaml").write_text(text)

    loaded = config.load(str(tmp_path), {"hipchat": HipChat(), "pager": Broken()})

    assert list(loaded.channels) == ["a"]
    assert "channels.b.type: type pager failed to read it: RuntimeError: oops" in str(
        loaded.problems[0]
    )


def test_a_token_in_the_file_works_but_is_warned_of(tmp_path: Path) -> None:
    text = "channels: {ops: {url: 'https://h', room: 1, token: made-up}}"

    loaded = _load(tmp_path, text)

    assert loaded.channels["ops"].settings == HipChatSettings(
        "https://h", "1", Token(inline="made-up")
    )
    assert "warning: channels.ops.token: readable by all" in str(loaded.problems[0])
    assert "made-up" not in str(loaded.problems) + repr(loaded)


def test_one_name_in_two_files(tmp_path: Path) -> None:
    text = f"channels:\n  ops: {{{MINIMAL}}}\n"

    loaded = _load(tmp_path, text, text)

    assert loaded.broken == {"ops"}
    assert loaded.channels == {}
    assert str(loaded.problems[0]) == (
        f"{tmp_path}/b.yaml:2:3: channels.ops: given before, at {tmp_path}/a.yaml:2"
    )


def test_a_problem_in_defaults_breaks_each_channel_that_shares_it(tmp_path: Path) -> None:
    loaded = _load(
        tmp_path,
        f"defaults: {{notify: yess}}\nchannels: {{one: {{{MINIMAL}}}, two: {{{MINIMAL}}}}}",
    )

    assert loaded.broken == {"one", "two"}
    assert len(loaded.problems) == 1


def test_one_bad_file_takes_no_other_down(tmp_path: Path) -> None:
    loaded = _load(tmp_path, "[", f"channels: {{ops: {{{MINIMAL}}}}}")

    assert list(loaded.channels) == ["ops"]
    assert loaded.unreadable == {f"{tmp_path}/a.yaml"}


def test_defaults_twice(tmp_path: Path) -> None:
    found = _problems(tmp_path, "defaults: {}", "defaults: {}")

    assert found == ["b.yaml:1:11: defaults: given before, in a.yaml"]


def test_unknown_keys_of_defaults(tmp_path: Path) -> None:
    text = f"defaults: {{url: 'https://x', colour: red}}\nchannels: {{ops: {{{MINIMAL}}}}}"

    assert _problems(tmp_path, text) == [
        "a.yaml:1:30: defaults.colour: unknown key, did you mean 'color'?"
    ]


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    for name in ("ops.yaml~", ".ops.yaml", "#ops.yaml#", "README"):
        (tmp_path / name).write_text("[")

    assert config.load(str(tmp_path), {"hipchat": HipChat()}).problems == ()


def test_a_directory_in_the_place_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "ops.yaml").mkdir()

    loaded = config.load(str(tmp_path), {"hipchat": HipChat()})

    assert [str(problem) for problem in loaded.problems] == [f"{tmp_path}/ops.yaml: Is a directory"]


def test_no_directory(tmp_path: Path) -> None:
    loaded = config.load(f"{tmp_path}/none", {"hipchat": HipChat()})

    assert "no such directory" in str(loaded.problems[0])


def test_a_file_that_is_too_large(tmp_path: Path) -> None:
    assert _problems(tmp_path, "#" * (1 << 20) + "\n") == ["a.yaml: larger than 1048576 bytes"]


def test_an_empty_file_is_fine(tmp_path: Path) -> None:
    assert _problems(tmp_path, "", "# nothing yet\n", "channels: {}") == []


def test_the_signature_changes_with_any_file(tmp_path: Path) -> None:
    _load(tmp_path, "channels: {}")
    before = config.signature(str(tmp_path))
    (tmp_path / "z.yml").write_text("")

    assert config.signature(str(tmp_path)) != before
    assert config.signature(f"{tmp_path}/none") == ()
