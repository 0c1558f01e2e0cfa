"""Extensions: guarded, refused by name, and never able to silence one another."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pluggy
import pytest

from conftest import AS_MODULE
from flipbell import hookimpl, log
from flipbell.extensions import Extensions
from flipbell.model import Status, Transition

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from conftest import Site
    from hipchat_room import HipChatRoom

DISK = Transition(1, "web-01", "disk", None, Status.CRITICAL, "", 0.0)


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Collect what is logged as an error."""
    said: list[str] = []
    monkeypatch.setattr(log, "error", said.append)
    return said


def _extension(**hooks: Callable[..., Any]) -> SimpleNamespace:
    return SimpleNamespace(**{name: hookimpl(function) for name, function in hooks.items()})


def _failing(transition: Transition, channel: str) -> str:
    del transition, channel
    raise RuntimeError("broken")


def test_one_that_fails_silences_no_other(logged: list[str]) -> None:
    extensions = Extensions()
    extensions.register(_extension(flipbell_veto=lambda channel: f"not {channel}"), "good")
    extensions.register(_extension(flipbell_veto=_failing), "bad")  # called first

    assert extensions.veto(DISK, "ops") == "not ops"
    assert logged == ["extension bad: _failing failed: RuntimeError: broken"]


def test_the_first_reason_wins() -> None:
    extensions = Extensions()
    extensions.register(_extension(flipbell_veto=lambda: "earlier"), "a")
    extensions.register(_extension(flipbell_veto=lambda: "later"), "b")
    extensions.register(_extension(flipbell_veto=lambda: None), "c")

    assert extensions.veto(DISK, "ops") == "later"


@pytest.mark.parametrize("mark", [hookimpl(wrapper=True), hookimpl(hookwrapper=True)])
def test_a_wrapper_is_refused(logged: list[str], mark: Any) -> None:
    def swallow() -> Iterator[None]:
        yield

    extensions = Extensions()
    extension = SimpleNamespace(flipbell_delivered=mark(swallow))

    assert not extensions.register(extension, "swallowing")
    assert logged == [
        "extension swallowing: refused: flipbell_delivered: wrappers could silence other extensions"
    ]


def test_a_misspelt_hook_is_refused_by_name(logged: list[str]) -> None:
    extensions = Extensions()

    assert not extensions.register(_extension(flipbell_vetto=lambda: "x"), "misspelt")
    assert logged == [
        "extension misspelt: refused: no hook is called flipbell_vetto,"
        " did you mean 'flipbell_veto'?"
    ]


def test_an_argument_that_no_hook_has_is_refused(logged: list[str]) -> None:
    extensions = Extensions()

    assert not extensions.register(_extension(flipbell_veto=lambda chanel: chanel), "wrong")
    assert "chanel" in logged[0]


def test_every_outcome_is_told() -> None:
    seen: list[object] = []
    extensions = Extensions()

    class Class:
        @hookimpl
        def flipbell_delivered(self, transition: Transition, channel: str, outcome: str) -> None:
            seen.append((transition.check, channel, outcome))

    extensions.register(Class(), "class")
    extensions.delivered(DISK, "ops", "dead")

    assert seen == [("disk", "ops", "dead")]


def test_types_and_formats_are_added() -> None:
    extensions = Extensions()
    extensions.register(_extension(flipbell_channel_types=lambda: {"pager": "type"}), "a")
    extensions.register(_extension(flipbell_agent_formats=lambda: {"mine": "format"}), "b")

    assert sorted(extensions.channel_types()) == ["hipchat", "pager"]
    assert list(extensions.agent_formats()) == ["mine"]


EXTENSION = """
from flipbell import hookimpl

@hookimpl
def flipbell_veto(transition, channel):
    return "quiet hours" if transition.check == "noisy" else None

@hookimpl
def flipbell_agent_formats():
    from flipbell import CheckResult
    return {"shouting": lambda given: [CheckResult("h", given.check.upper(), "CRITICAL")]}
"""


@pytest.fixture
def installed(site: Site, tmp_path: Path) -> Site:
    """A site on which an extension, and one that cannot be imported, are installed."""
    packages = tmp_path / "packages"
    metadata = packages / "an_extension-1.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: an-extension\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text("[flipbell]\ngood = an_extension\nbad = no_such\n")
    (packages / "an_extension.py").write_text(EXTENSION)
    site.environ["PYTHONPATH"] = str(packages)
    site.command = AS_MODULE
    return site


def test_an_installed_extension_is_at_work(installed: Site, hipchat_room: HipChatRoom) -> None:
    installed.channel(hipchat_room.url)
    installed.environ["FLIPBELL_COURIER"] = "off"

    for check in ("noisy", "c"):
        installed.flipbell("report", "--from", "shouting", "--check", check)
        installed.flipbell("report", "--check", check, "--status", "2")
    installed.deliver()

    said = " ".join(str(heard.body["message"]) for heard in hipchat_room.heard)
    assert [name in said for name in ("NOISY", "noisy", ": C on", ": c on")] == [1, 0, 1, 1]


def test_a_disabled_extension_is_not(installed: Site) -> None:
    installed.environ["FLIPBELL_DISABLED_PLUGINS"] = "good, other"

    done = installed.flipbell("report", "--from", "shouting", "--check", "c")

    assert done.returncode == 2


def test_the_lowest_pluggy_is_supported() -> None:
    """What `.ci/run` installs once in the lowest and once in the newest version."""
    assert tuple(map(int, pluggy.__version__.split(".")[:2])) >= (1, 5)


def test_what_is_no_mapping_is_left_out(logged: list[str]) -> None:
    extensions = Extensions()
    extensions.register(_extension(flipbell_channel_types=lambda: ["x"]), "odd")
    extensions.register(_extension(flipbell_agent_formats=lambda: 5), "odder")

    assert list(extensions.channel_types()) == ["hipchat"]
    assert extensions.agent_formats() == {}
    assert len(logged) == 2


def test_a_type_whose_room_fails_takes_its_own_channel_down(tmp_path: Path) -> None:
    from flipbell.channels.hipchat import HipChat
    from flipbell.rooms import Rooms

    class Broken(HipChat):
        def room(self, channel: object) -> str:
            raise RuntimeError(channel)

    keys = "url: 'https://h', room: 1, token_env: T"
    text = f"channels: {{a: {{{keys}}}, b: {{type: pager, {keys}}}}}"
    (tmp_path / "a.yaml").write_text(text)
    said: list[str] = []
    rooms = Rooms(str(tmp_path), {"hipchat": HipChat(), "pager": Broken()}, said.append)

    assert rooms.refresh()

    assert list(rooms.channels) == ["a"]
    assert rooms.concerns("b")
    assert "channel b: type pager failed: RuntimeError" in said
