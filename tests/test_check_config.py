"""check-config: what keeps a channel from sending, and never a token in a wrong place."""

from __future__ import annotations

import json
import os
import posix
from typing import TYPE_CHECKING, Any

import pytest

from conftest import NOBODY, as_nobody, open_to_all
from flipbell import binding, places, zones
from flipbell.channels.hipchat import HipChat
from flipbell.cli import main
from flipbell.config import load
from flipbell.ledger import Ledger, LedgerError
from flipbell.wording import shown

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Site

URL = "http://127.0.0.1:9"


def test_a_channel_that_can_send_is_fine(site: Site) -> None:
    site.channel(URL)

    assert site.flipbell("check-config").returncode == 0


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (None, "no such file; write the room's token into it"),
        ("", "empty; expected the room's token"),
        ("two words", "expected one token"),
    ],
)
def test_a_channel_that_cannot_send(site: Site, content: str | None, fault: str) -> None:
    site.channel(URL)
    site.token.unlink()
    if content is not None:
        site.token.write_text(content)
        site.token.chmod(0o600)

    done = site.flipbell("check-config")
    as_json = json.loads(site.flipbell("check-config", "--json").stdout)

    assert done.returncode == 1
    assert f": cannot send: channels.ops.token_file: {site.token}: {fault}" in done.stdout.decode()
    assert [problem["warning"] for problem in as_json["problems"]] == [False]


@pytest.mark.parametrize(
    ("value", "text", "status"),
    [
        (None, "warning: OPS_TOKEN: not set; set it in the environment of", 0),
        ("", "cannot send: OPS_TOKEN: empty", 1),
        ("some-token", "", 0),
    ],
)
def test_a_token_in_the_environment(site: Site, value: str | None, text: str, status: int) -> None:
    site.channel(URL, token_env="OPS_TOKEN")
    if value is not None:
        site.environ["OPS_TOKEN"] = value

    done = site.flipbell("check-config")

    assert done.returncode == status
    assert text in done.stdout.decode()


@pytest.mark.skipif(os.geteuid() != 0, reason="root alone can be another user")
@pytest.mark.parametrize(
    ("owner", "remedy"),
    [
        (NOBODY, "user nobody cannot read it, although it is the owner; chmod 600 it"),
        (0, "user nobody cannot read it; it is owned by root; chown it to the agent's"),
    ],
)
def test_a_token_that_may_not_be_read(site: Site, owner: int, remedy: str) -> None:
    site.channel(URL)
    os.chown(site.token, owner, owner)
    site.token.chmod(0)

    done = as_nobody(site, "check-config")

    assert done.returncode == 1
    assert remedy in done.stdout.decode()


@pytest.mark.skipif(os.geteuid() != 0, reason="root alone can be another user")
def test_a_missing_ca_file_keeps_a_channel_from_sending(site: Site) -> None:
    site.channel(URL, verify="/nonexistent.pem")

    done = site.flipbell("check-config")
    problem = json.loads(site.flipbell("check-config", "--json").stdout)["problems"][0]

    assert done.returncode == 1
    assert b"cannot send: channels.ops.verify: /nonexistent.pem: no such file" in done.stdout
    assert not problem["warning"]


@pytest.mark.parametrize("kind", ["directory", "fifo", "empty"])
def test_a_token_file_that_holds_no_token_is_not_told_to_change_its_mode(
    site: Site, kind: str
) -> None:
    site.token.unlink()
    if kind == "directory":
        site.token.mkdir()
    elif kind == "fifo":
        os.mkfifo(site.token)
    else:
        site.token.touch()
    site.token.chmod(0o755)
    site.channel(URL)

    assert b"chmod" not in site.flipbell("check-config").stdout


def test_a_token_behind_a_directory_that_may_not_be_entered(site: Site) -> None:
    closed = site.base / "closed"
    closed.mkdir(mode=0o700)
    (closed / "token").write_text("made-up")
    site.channel(URL, token_file=str(closed / "token"))
    config = site.config / "ops.yaml"
    config.write_text(config.read_text().replace(str(site.token), str(closed / "token")))

    done = as_nobody(site, "check-config")

    assert done.returncode == 1
    assert (
        f"user nobody cannot read it, as it may not enter {closed}; chmod" in done.stdout.decode()
    )


# As HipChat makes them, as they are made by hand, with slashes, and in capitals.
TOKENS = [
    "kT7pQ2mVx9LrB4nWc8ZsD1fGh6JyA3uEoR5iNtMv",
    "made-up-token-for-tests",
    "q83vASNFZ4mrze8BI0VniavN7wEj/RWe+A==",
    "S3CR3T_T0K3N_0F_0PS",
]
WRONG_KEYS = [
    "type: TOKEN",
    "format: TOKEN",
    "send: TOKEN",
    "send: [TOKEN]",
    "send: {critical: TOKEN}",
    "send: {TOKEN: true}",
    "notify: TOKEN",
    "notify: [TOKEN]",
    "color: {ok: TOKEN}",
    "color: TOKEN",
    "mention: TOKEN",
    "match: TOKEN",
    "match: [TOKEN]",
    "exclude: [{host: [TOKEN]}]",
    "per_minute: TOKEN",
    "timeout: TOKEN",
    "verify: TOKEN",
    "proxy: TOKEN",
    "timezone: TOKEN",
    "message: '$TOKEN'",
    "TOKEN: 1",
]
WRONG_PLACES = [
    "TOKEN",
    "[TOKEN]",
    "channels: TOKEN",
    "channels: [TOKEN]",
    "channels: {a: TOKEN}",
    "channels: {a: [TOKEN]}",
    "channels: !TOKEN {}",
    "defaults: TOKEN",
    "channels: {a: {url: TOKEN, room: 1, token_file: /t}}",
    "channels: {a: {url: 'htp://h?auth_token=TOKEN', room: 1, token_file: /t}}",
    "channels: {a: {url: 'https://TOKEN@h', room: 1, token_file: /t}}",
    "channels: {a: {url: 'https://h', room: 1, token_file: TOKEN}}",
    "channels: {a: {url: 'https://h', room: 1, token_env: 'TOKEN='}}",
    "channels: {a: {url: 'https://h', room: 1, token: ['TOKEN']}}",
    *(
        f"channels: {{a: {{url: 'https://h', room: 1, token_file: /t, {key}}}}}"
        for key in WRONG_KEYS
    ),
]


@pytest.mark.parametrize("token", TOKENS)
@pytest.mark.parametrize("content", WRONG_PLACES)
def test_a_token_in_a_wrong_place_is_not_shown(tmp_path: Path, content: str, token: str) -> None:
    (tmp_path / "a.yaml").write_text(content.replace("TOKEN", token))

    loaded = load(str(tmp_path), {"hipchat": HipChat()})

    assert loaded.problems
    for problem in loaded.problems:
        assert token not in str(problem)


WRONG_WORDS = [
    "init --url http://h --room 1 --token TOKEN",
    "init --url http://h --room 1 --token=TOKEN",
    "init --url http://h --room 1 --token-from TOKEN",
    "init --url http://h --room 1 --user TOKEN --token-from /t",
    "init --url http://h --room TOKEN --token-from /t",
    "init --url TOKEN --room 1 --token-from /t",
    "status --json=TOKEN",
    "status --format TOKEN",
    "status TOKEN",
    "history --limit TOKEN",
    "history --since TOKEN",
    "dead TOKEN",
    "flush --timeout TOKEN",
    "hooks TOKEN",
    "explain web-01 disk TOKEN",
    "test ops --status TOKEN",
    "TOKEN",
    "help TOKEN",
]


@pytest.mark.parametrize("token", TOKENS)
@pytest.mark.parametrize("words", WRONG_WORDS)
def test_a_token_in_a_wrong_place_of_a_command_is_not_shown(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: str,
    token: str,
) -> None:
    monkeypatch.setenv("FLIPBELL_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("FLIPBELL_CONFIG", str(tmp_path / "conf.d"))
    try:
        status = main([word.replace("TOKEN", token) for word in words.split()])
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    printed = "".join(capsys.readouterr())

    assert status == 2
    assert printed
    assert token not in printed


def test_a_token_in_the_place_of_the_channels_name_is_not_shown(site: Site) -> None:
    arguments = ["--url", "http://h", "--room", "1", "--token-from", str(site.token)]

    done = site.flipbell("init", *arguments, "--channel", TOKENS[0])

    assert done.returncode == 2
    assert b"--channel: this looks like a token" in done.stderr
    assert TOKENS[0].encode() not in done.stderr


@pytest.mark.parametrize(
    ("name", "shown_as"), [("Europe/Berlni", "'Europe/Berlni'"), ("Berlin", "'Berlin'")]
)
def test_a_misspelt_time_zone_is_shown(name: str, shown_as: str) -> None:
    with pytest.raises(zones.ZoneError, match=f"got {shown_as}"):
        zones.find(name)


@pytest.mark.parametrize(
    "content",
    [
        "channels: {TOKEN: {url: 'https://h', room: 1, token_file: /t}}",
        "channels: {a: {url: 'https://h', room: TOKEN, token_file: /t}}",
    ],
    ids=["name", "room"],
)
def test_a_token_in_the_place_of_a_name_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.yaml").write_text(content.replace("TOKEN", TOKENS[0]))

    loaded = load(str(tmp_path), {"hipchat": HipChat()})

    assert not loaded.channels
    assert "this looks like a token" in str(loaded.problems)
    assert TOKENS[0] not in str(loaded.problems)


@pytest.mark.parametrize("value", ["critcal", "h.example.com:8080", "https://h.example", "a b"])
def test_what_is_no_token_is_shown(value: str) -> None:
    assert shown(value) == repr(value)


def test_a_directory_that_is_missing_points_to_init(site: Site) -> None:
    site.config.rmdir()

    done = site.flipbell("check-config")

    assert done.returncode == 1
    assert "no such directory; flipbell init makes it" in done.stdout.decode()


@pytest.mark.parametrize(
    ("keys", "is_silent"),
    [
        ({"exclude": [{}]}, True),
        ({"match": [{"host": "web-*"}], "exclude": [{"host": "web-*"}]}, True),
        ({"exclude": [{"host": "web-*"}]}, False),
        ({"match": [{"host": "a"}, {"host": "b"}], "exclude": [{"host": "a"}]}, False),
    ],
)
def test_a_channel_that_excludes_all_that_it_matches(
    site: Site, keys: dict[str, Any], *, is_silent: bool
) -> None:
    site.channel(URL, **keys)

    text = site.flipbell("check-config").stdout.decode()

    assert ("this room never hears anything" in text) is is_silent


@pytest.mark.skipif(os.geteuid() != 0, reason="root alone can be another user")
def test_init_makes_an_ordinary_users_own_configuration(site: Site) -> None:
    home = site.base / "home"
    home.mkdir()
    for path in (home, site.token):
        os.chown(path, NOBODY, NOBODY)
    open_to_all(site)
    site.environ["HOME"] = str(home)
    for name in ("FLIPBELL_CONFIG", "FLIPBELL_STATE", "XDG_CONFIG_HOME", "XDG_STATE_HOME"):
        site.environ.pop(name, None)
    words = ("--url", URL, "--room", "1", "--token-from", str(site.token))

    done = as_nobody(site, "init", *words)
    status = as_nobody(site, "status").stdout.decode()

    assert done.returncode == 0, done.stderr
    own = home / ".config" / "flipbell" / "conf.d"
    assert (own / "ops.yaml").exists()
    assert f"config   {own} (this user's own, which comes before the system's)" in status


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The place of a user's own configuration beside that of the system, which is there."""
    systems = tmp_path / "etc"
    systems.mkdir()
    monkeypatch.setattr(places, "SYSTEM_CONFIG", str(systems))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("FLIPBELL_CONFIG", raising=False)
    return tmp_path / "home" / "flipbell" / "conf.d"


def test_a_state_goes_over_to_the_users_own_configuration(
    tmp_path: Path, own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger.open(str(tmp_path))
    binding.claim_config(ledger, str(tmp_path / "etc"))
    assert binding.config_for(str(tmp_path), None) == str(tmp_path / "etc")
    # Only the number is looked at from here on, so the files may stay as they are.
    for module in (os, posix):
        monkeypatch.setattr(module, "geteuid", lambda: tmp_path.stat().st_uid or NOBODY)
    monkeypatch.setattr("flipbell.state.check_private", lambda *_: None)
    own.mkdir(parents=True)

    assert binding.config_for(str(tmp_path), None) == str(own)
    binding.claim_config(ledger, str(own))
    assert ledger.setting("config") == str(own)
    with pytest.raises(LedgerError, match="belongs to the configuration"):
        binding.claim_config(ledger, str(tmp_path / "etc"))
    ledger.close()
