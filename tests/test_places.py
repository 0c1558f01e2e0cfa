"""Where things are: by what is said, what exists and who owns it, never by what fails."""

from __future__ import annotations

import os
import posix
import pwd
import shutil
import stat
from typing import TYPE_CHECKING

import pytest

from conftest import NOBODY, as_nobody
from flipbell import binding, child, identity, places, state
from flipbell.state import StateError

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Site
    from hipchat_room import HipChatRoom
    from syslog_socket import Syslog


@pytest.fixture
def user(monkeypatch: pytest.MonkeyPatch) -> None:
    """Be an ordinary user, whoever runs the tests."""
    for module in (os, posix):
        monkeypatch.setattr(module, "geteuid", lambda: 12345)


def test_as_said() -> None:
    environ = {"FLIPBELL_STATE": "/from/environment", "FLIPBELL_CONFIG": "/c"}

    assert places.find_state("/option", environ) == "/option"
    assert places.find_state(None, environ) == "/from/environment"
    assert places.find_config("/option", environ) == "/option"
    assert places.find_config(None, environ) == "/c"


def test_said_relative_to_where_it_was_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    assert places.find_state("state", {}) == f"{tmp_path}/state"


@pytest.mark.usefixtures("user")
def test_a_users_own_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "SYSTEM_CONFIG", "/no/such")

    assert places.find_state(None, {"HOME": "/home/u"}) == "/home/u/.local/state/flipbell"
    assert places.find_state(None, {"XDG_STATE_HOME": "/x", "HOME": "/h"}) == "/x/flipbell"
    assert places.own_config({"HOME": "/h"}) == "/h/.config/flipbell/conf.d"
    assert places.find_state(None, {}) == "/nonexistent/.local/state/flipbell"


@pytest.mark.usefixtures("user")
@pytest.mark.parametrize("variable", ["HOME", "XDG_CONFIG_HOME"])
def test_a_users_own_configuration_comes_before_the_systems(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    systems, home = tmp_path / "etc", tmp_path / "home"
    systems.mkdir()
    monkeypatch.setattr(places, "SYSTEM_CONFIG", str(systems))
    environ = {variable: str(home)}
    assert places.find_config(None, environ) == str(systems)

    own = home / ".config" / "flipbell" / "conf.d"
    if variable == "XDG_CONFIG_HOME":
        own = home / "flipbell" / "conf.d"
    own.mkdir(parents=True)

    assert places.find_config(None, environ) == str(own)


@pytest.mark.usefixtures("user")
def test_an_agent_without_home_keeps_the_systems_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "SYSTEM_CONFIG", str(tmp_path))

    assert places.find_config(None, {}) == str(tmp_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="root's own places")
def test_root_looks_after_the_systems_places() -> None:
    assert places.find_state(None, {"HOME": "/root"}) == "/var/lib/flipbell"
    assert places.find_config(None, {"HOME": "/root"}) == "/etc/flipbell/conf.d"


def test_the_systems_place_where_it_is_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "SYSTEM_STATE", str(tmp_path))
    for module in (os, posix):
        monkeypatch.setattr(module, "geteuid", lambda: tmp_path.stat().st_uid)

    assert places.find_state(None, {"HOME": "/h"}) == str(tmp_path)


def test_a_missing_state_directory_is_made_private(tmp_path: Path) -> None:
    made = tmp_path / "deep" / "state"

    state.prepare(str(made))

    assert stat.S_IMODE(made.stat().st_mode) == 0o700


@pytest.mark.parametrize(
    ("mode", "said"), [(0o720, "others can write to it"), (0o702, "others can write to it")]
)
def test_a_directory_that_others_can_write_to_is_refused(
    tmp_path: Path, mode: int, said: str
) -> None:
    tmp_path.chmod(mode)

    with pytest.raises(StateError, match=said):
        state.prepare(str(tmp_path))


@pytest.mark.usefixtures("user")
def test_a_directory_of_another_user_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StateError, match=r"belongs to user \S+, and this is user 12345"):
        state.prepare(str(tmp_path))


def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(StateError, match="file/state"):
        state.prepare(f"{tmp_path}/file/state")


def test_a_symlink_in_the_place_of_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "target").touch()
    (tmp_path / "spool").symlink_to(tmp_path / "target")

    with pytest.raises(OSError, match="symbolic links"):
        state.open_private(str(tmp_path), "spool", os.O_RDWR)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_the_wrong_user_is_told_which_user_and_which_directory(
    site: Site, hipchat_room: HipChatRoom, syslog: Syslog
) -> None:
    site.channel(hipchat_room.url)
    site.run("disk", 2)
    site.deliver()
    said = f"state directory {site.state}: belongs to user root, and this is user nobody; run flip"

    check = ["sh", "-c", "echo fine"]
    wrapped = as_nobody(site, "run", "--check", "disk", "--", *check)
    status = as_nobody(site, "status")

    assert (wrapped.returncode, wrapped.stdout, wrapped.stderr) == (0, b"fine\n", b"")
    syslog.wait_for(said)
    assert f"broken: {said}" in status.stdout.decode()
    assert f"state    {site.state}\n" in status.stdout.decode()


@pytest.mark.parametrize(
    "text",
    [
        "token_env: OPS_TOKEN",
        '  token_env : "OPS_TOKEN"  # comment',
        "{room: 1, token_env: 'OPS_TOKEN', url: x}",
        '{"token_env":"OPS_TOKEN"}',
        "token_env:\n    OPS_TOKEN",
        "token_env: [broken\ntoken_env: OPS_TOKEN",
    ],
)
def test_finds_the_variables_that_hold_tokens(tmp_path: Path, text: str) -> None:
    (tmp_path / "ops.yaml").write_text(text)
    environ = {"OPS_TOKEN": "x", "OTHER": "y"}

    assert child.environment(environ, str(tmp_path)) == {"OTHER": "y"}


def test_no_configuration_names_no_variable(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").mkdir()
    (tmp_path / "b.yaml").write_text("token_env")
    (tmp_path / "c.yaml").symlink_to("/no/such")

    assert child.environment({"A": "x"}, str(tmp_path)) == {"A": "x"}
    assert child.environment({"A": "x"}, f"{tmp_path}/none") == {"A": "x"}


def test_descriptors_are_found_where_dev_fd_is_not_mounted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def missing(_: str) -> list[str]:
        raise FileNotFoundError

    monkeypatch.setattr(os, "listdir", missing)

    assert {0, 1, 2} <= {descriptor for descriptor, _ in state.open_descriptors()}


def test_a_forked_process_lets_go_of_what_it_inherited(tmp_path: Path) -> None:
    held = state.try_lock(str(tmp_path), state.COURIER_LOCK)
    assert held is not None

    state.let_go(str(tmp_path))

    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(held)


def test_a_relative_place_where_the_working_directory_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()

    assert places.find_state("state", {}) == "state"
    monkeypatch.chdir(tmp_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
def test_root_acts_as_a_user_and_is_root_again(tmp_path: Path) -> None:
    before = (os.geteuid(), os.getegid(), os.getgroups())

    with identity.ActingAs(NOBODY):
        assert (os.geteuid(), os.getegid()) == (NOBODY, pwd.getpwuid(NOBODY).pw_gid)
        assert 0 not in os.getgroups()
    assert (os.geteuid(), os.getegid(), os.getgroups()) == before

    with pytest.raises(PermissionError), identity.ActingAs(987_654):
        (tmp_path / "private").mkdir()
    assert (os.geteuid(), os.getegid(), os.getgroups()) == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has a choice")
def test_root_refuses_its_own_state_in_another_users_place(tmp_path: Path) -> None:
    (tmp_path / "theirs" / "state").mkdir(parents=True)
    shutil.chown(tmp_path / "theirs", NOBODY)

    with pytest.raises(StateError, match=f"belongs to root, but user {NOBODY} owns something"):
        identity.become_owner(f"{tmp_path}/theirs/state")

    assert identity.become_owner(f"{tmp_path}/mine") is False
    assert os.geteuid() == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has a choice")
def test_root_makes_no_state_in_another_users_place(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    shutil.chown(tmp_path / "theirs", NOBODY)

    with pytest.raises(StateError, match=r"above it belongs to user .*; run flipbell as"):
        state.prepare(f"{tmp_path}/theirs/state")

    assert os.listdir(tmp_path / "theirs") == []


def test_a_state_below_a_file_is_named_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(
        StateError, match="file/state: a part of this path is not a directory; name another"
    ):
        state.prepare(f"{tmp_path}/file/state")


def test_a_fifo_in_the_place_of_a_file_is_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "append.lock")

    with pytest.raises(StateError, match=r"append\.lock: not a file; remove it"):
        state.open_private(str(tmp_path), "append.lock", os.O_RDWR)


def test_a_lock_is_for_one_at_a_time_and_its_file_for_its_owner(tmp_path: Path) -> None:
    held = state.lock(str(tmp_path), "some.lock")

    assert state.try_lock(str(tmp_path), "some.lock") is None
    state.unlock(held)
    again = state.try_lock(str(tmp_path), "some.lock")
    assert again is not None
    state.unlock(again)
    assert stat.S_IMODE((tmp_path / "some.lock").stat().st_mode) == 0o600


def test_the_reason_for_a_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FLIPBELL_CONFIG", raising=False)
    usual = places.find_config(None, os.environ)

    assert binding.reason_for("/c", "/c") == "named by --config"
    assert binding.reason_for("/c", None) == "the one that this state belongs to"
    assert binding.reason_for(usual, None) in (
        "the system's",
        "this user's own, which comes before the system's",
    )
    monkeypatch.setenv("FLIPBELL_CONFIG", "/c")
    assert binding.reason_for("/c", None) == "named by FLIPBELL_CONFIG"
