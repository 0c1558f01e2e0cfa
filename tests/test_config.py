"""The configuration: what it gives, and where exactly it is wrong."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from conftest import as_nobody
from flipbell import config
from flipbell.channels.hipchat import HipChat, HipChatSettings
from flipbell.channels.token import Token
from flipbell.model import Channel, Pattern, Status

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Site

OK, WARNING, CRITICAL, UNKNOWN = Status
CHANNEL = "channels: {{ops: {{url: 'https://h', room: 1, {}}}}}"
MINIMAL = "url: https://h, room: 1, token_env: T"


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
    assert channel.settings == HipChatSettings("https://h", "1", Token(variable="T"))


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
        "defaults: {url: 'https://h', token_env: A, notify: {ok: true, warning: false}}",
        "channels: {one: {room: 1}, two: {room: 2, token: made-up, notify: {warning: true}}}",
    )

    assert not loaded.errors
    assert loaded.channels["one"].notify == {OK, CRITICAL, UNKNOWN}
    assert loaded.channels["two"].notify == {OK, WARNING, CRITICAL, UNKNOWN}
    settings = loaded.channels["two"].settings
    assert isinstance(settings, HipChatSettings)
    assert settings.token == Token(inline="made-up")  # its own, though the defaults name another


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
    assert "warning: channels.ops.token: all who can read this file can read it" in str(
        loaded.problems[0]
    )
    assert "made-up" not in str(loaded.problems) + repr(loaded)


@pytest.mark.parametrize(
    ("content", "mode", "said"),
    [
        (b"made-up", 0o600, None),
        (b"made-up\r\n", 0o640, None),
        (None, 0o600, "no such file; write the room's token into it"),
        (b"", 0o600, "empty; expected the room's token"),
        (b"two words\n", 0o600, "expected one token, without spaces, control or non-ASCII"),
        (b"a\x1bb", 0o600, "expected one token, without spaces, control or non-ASCII"),
        ("é".encode(), 0o600, "expected one token, without spaces, control or non-ASCII"),
        (b"one\ntwo\n", 0o600, "expected one token, without spaces, control or non-ASCII"),
        (b"made-up", 0o644, "every user of this host can read it; chmod 600 it"),
    ],
)
def test_a_tokens_file_is_looked_at(
    tmp_path: Path, content: bytes | None, mode: int, said: str | None
) -> None:
    token = tmp_path / "token"
    if content is not None:
        token.write_bytes(content)
        token.chmod(mode)

    loaded = _load(
        tmp_path, f"channels: {{ops: {{url: 'https://h', room: 1, token_file: {token}}}}}"
    )

    assert list(loaded.channels) == ["ops"]  # it can be mended without an edit
    assert [problem.is_warning for problem in loaded.problems] == [True] * (said is not None)
    assert str(loaded.problems[0] if said else "").partition(f"{token}: ")[2].startswith(said or "")


@pytest.mark.parametrize("kind", ["directory", "fifo"])
def test_a_tokens_file_that_is_none(tmp_path: Path, kind: str) -> None:
    token = tmp_path / "token"
    os.mkdir(token, 0o700) if kind == "directory" else os.mkfifo(token, 0o600)

    (problem,) = _problems(tmp_path, CHANNEL.format(f"token_file: {token}"))

    assert "expected" in problem


@pytest.mark.parametrize("value", ["0x5ec7e7", "5.5ec7e7", "2026-11-23", "s3c 7e7", "[s3c7e7]"])
def test_a_problem_with_a_token_does_not_show_it(tmp_path: Path, value: str) -> None:
    (found,) = _problems(tmp_path, CHANNEL.format(f"token: {value}"))

    assert "channels.ops.token: " in found
    assert value.strip("[]") not in found


def test_one_name_in_two_files(tmp_path: Path) -> None:
    text = f"channels:\n  ops: {{{MINIMAL}}}\n"

    loaded = _load(tmp_path, text, text)

    assert loaded.broken == {"ops"}
    assert loaded.channels == {}
    assert str(loaded.problems[0]) == (
        f"{tmp_path}/b.yaml:2:3: channels.ops: given before, at {tmp_path}/a.yaml:2; "
        "rename one of them"
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

    assert found == ["b.yaml:1:11: defaults: given before, in a.yaml; remove one of them"]


def test_unknown_keys_of_defaults_are_found_whatever_else_is_wrong(tmp_path: Path) -> None:
    found = _problems(tmp_path, "defaults: {rooom: 1}\nchannels: {ops: {url: 3}}")

    assert found[0] == "a.yaml:1:12: defaults.rooom: unknown key, did you mean 'room'?"
    assert len(found) == 4
    assert len(_problems(tmp_path, "defaults: {rooom: 1}")) == 1


def test_a_file_in_the_place_of_the_directory(tmp_path: Path) -> None:
    _load(tmp_path, "channels: {}")

    (problem,) = config.load(f"{tmp_path}/a.yaml", {}).problems

    assert problem.message == "not a directory; name the one that holds the files with --config"


def test_a_huge_key_is_not_shown_whole(tmp_path: Path) -> None:
    (problem,) = _problems(tmp_path, f"? {'x' * 100_000}\n: 1\n")

    assert len(problem) < 400


@pytest.mark.parametrize("keys", ["token_file: s3c7e7", "token_env: 9s3c7e7", "token_env: s-3c7e7"])
def test_a_token_in_the_wrong_place_is_not_shown(tmp_path: Path, keys: str) -> None:
    (problem,) = _problems(tmp_path, CHANNEL.format(keys))

    assert "3c7e7" not in problem


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    for name in ("ops.yaml~", ".ops.yaml", "#ops.yaml#", "README"):
        (tmp_path / name).write_text("[")

    assert config.load(str(tmp_path), {"hipchat": HipChat()}).problems == ()


def test_a_directory_in_the_place_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "ops.yaml").mkdir()

    loaded = config.load(str(tmp_path), {"hipchat": HipChat()})

    assert [str(problem) for problem in loaded.problems] == [
        f"{tmp_path}/ops.yaml: a directory; rename it, for every *.yaml here is read as a file"
    ]


def test_a_fifo_in_the_place_of_a_file_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "ops.yaml")

    assert _problems(tmp_path) == ["ops.yaml: no regular file; mend or remove it"]


def test_a_link_to_nowhere(tmp_path: Path) -> None:
    (tmp_path / "ops.yaml").symlink_to("nowhere")

    assert _problems(tmp_path) == ["ops.yaml: No such file or directory; mend or remove it"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody who may not read it")
def test_a_file_that_the_agents_user_may_not_read(site: Site) -> None:
    site.channel("http://127.0.0.1:1")
    (site.config / "ops.yaml").chmod(0o600)

    done = as_nobody(site, "check-config")

    assert (done.returncode, done.stderr) == (1, b"")
    assert done.stdout.decode() == (
        f"{site.config}/ops.yaml: user nobody cannot read it; it is owned by root; chmod 644 it\n"
    )


def test_no_directory(tmp_path: Path) -> None:
    loaded = config.load(f"{tmp_path}/none", {"hipchat": HipChat()})

    assert "no such directory" in str(loaded.problems[0])


def test_a_file_that_is_too_large(tmp_path: Path) -> None:
    for size in (1 << 20, 10 << 20):
        found = _problems(tmp_path, "#" * size + "\n")

        assert found == ["a.yaml: expected at most 1048576 bytes; divide it"]


def test_an_empty_file_is_fine(tmp_path: Path) -> None:
    assert _problems(tmp_path, "", "# nothing yet\n", "channels: {}") == []


def test_the_signature_changes_with_any_file(tmp_path: Path) -> None:
    _load(tmp_path, "channels: {}")
    before = config.signature(str(tmp_path))
    (tmp_path / "z.yml").write_text("")

    assert config.signature(str(tmp_path)) != before
    assert config.signature(f"{tmp_path}/none") == ()
