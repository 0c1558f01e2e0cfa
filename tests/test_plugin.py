"""The hook contract: any host, any order, any failure, and never a harm to the agent."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pluggy
import pytest

import flipbell
from conftest import Process, run_python, shipped, unmeasured, until
from flipbell import CheckResult, Status
from flipbell.hookspecs import AgentSpecs
from flipbell.plugin import AttachError
from hipchat_room import Answer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from conftest import Site
    from hipchat_room import HipChatRoom

HOOKS = [name for name in vars(AgentSpecs) if name.startswith("flipbell_")]


@pytest.fixture
def agent(site: Site, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], flipbell.Flipbell]]:
    """Start flipbell in this process, on a site of its own."""
    for name in ("FLIPBELL_STATE", "FLIPBELL_CONFIG"):
        monkeypatch.setenv(name, site.environ[name])
    started = []

    def start() -> flipbell.Flipbell:
        started.append(flipbell.start("test"))
        return started[-1]

    yield start
    for running in started:
        running.stop(10.0)


def test_a_plain_registration_registers_nothing_which_is_why_there_is_attach() -> None:
    """The fact about pluggy that `attach` exists for."""

    class Plain:
        @flipbell.hookimpl
        def flipbell_check_result(self, result: CheckResult) -> None: ...

    host = pluggy.PluginManager("someagent")
    host.register(Plain())

    assert not hasattr(host.hook, "flipbell_check_result")


@pytest.mark.parametrize("project", ["someagent", "flipbell", "a-b.c"])
@pytest.mark.usefixtures("agent")
def test_attaches_under_any_project_name(project: str) -> None:
    host = pluggy.PluginManager(project)

    attached = flipbell.attach(host)

    assert host.get_plugin("flipbell") is attached
    for name in HOOKS:
        assert [found.plugin for found in getattr(host.hook, name).get_hookimpls()] == [attached]
        assert getattr(host.hook, name).has_spec()
    host.check_pending()


@pytest.mark.usefixtures("agent")
def test_hosts_hooks_beside_ours() -> None:
    host = pluggy.PluginManager("someagent")
    spec, impl = pluggy.HookspecMarker("someagent"), pluggy.HookimplMarker("someagent")
    calls = []

    class Hosts:
        @spec
        def check_result(self, result: object) -> None: ...

        @spec
        def flipbell_check_result(self, result: CheckResult) -> None:
            """The host has specified our hook itself, and keeps its own."""

    class Others:
        @impl
        def check_result(self, result: object) -> None:
            calls.append(result)

        @impl
        def flipbell_check_result(self, result: CheckResult) -> None:
            calls.append(result)

    host.add_hookspecs(Hosts)
    host.register(Others())
    flipbell.attach(host)
    result = CheckResult("h", "c", Status.OK)
    host.hook.check_result(result=1)
    host.hook.flipbell_check_result(result=result)

    assert calls == [1, result]
    spec_in_use = host.hook.flipbell_check_result.spec
    assert spec_in_use is not None
    assert spec_in_use.namespace is Hosts


@pytest.mark.usefixtures("agent")
def test_a_host_whose_hook_of_that_name_is_another_is_told_so() -> None:
    host = pluggy.PluginManager("someagent")

    class Hosts:
        @pluggy.HookspecMarker("someagent")
        def flipbell_check_result(self, other: int) -> None: ...

    host.add_hookspecs(Hosts)

    with pytest.raises(
        AttachError, match="someagent has a hook flipbell_check_result of its own, with other"
    ):
        flipbell.attach(host)


@pytest.mark.usefixtures("agent")
def test_attaching_again_changes_nothing() -> None:
    host = pluggy.PluginManager("someagent")

    assert flipbell.attach(host) is flipbell.attach(host)
    assert len(host.get_plugins()) == 1


@pytest.mark.usefixtures("agent")
def test_attaching_after_a_reload_replaces_the_old_one() -> None:
    class FromBefore:
        stopped = False

        def stop(self, _timeout: float) -> None:
            self.stopped = True

    host = pluggy.PluginManager("someagent")
    before = FromBefore()
    host.register(before, "flipbell")

    attached = flipbell.attach(host)

    assert before.stopped
    assert host.get_plugins() == {attached}


def test_eight_threads_at_once(
    site: Site, hipchat_room: HipChatRoom, agent: Callable[[], flipbell.Flipbell]
) -> None:
    site.channel(hipchat_room.url, per_minute=0)
    running = agent()

    def report(name: int) -> None:
        for check in range(10):
            for status in (0, 1, 1, 2, 0):
                running.report(CheckResult(f"h{name}", f"c{check}", Status(status)))

    threads = [threading.Thread(target=report, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    running.stop(30.0)

    by_check: dict[str, list[str]] = {}
    for heard in hipchat_room.heard:
        name = str(heard.body["message"]).split(": ")[1].split(" (")[0]
        by_check.setdefault(name, []).append(heard.status)
    assert len(by_check) == 80
    assert set(map(tuple, by_check.values())) == {("WARNING", "CRITICAL", "OK")}


@pytest.mark.parametrize(
    "result",
    [None, 5, CheckResult(None, "c", Status.OK), CheckResult("h", ["c"], Status.OK)],  # type: ignore[arg-type]
)
def test_an_agents_own_mistake_does_it_no_harm(
    site: Site, agent: Callable[[], flipbell.Flipbell], result: Any
) -> None:
    running = agent()

    running.report(result)
    running.report(CheckResult("h", "c", Status.CRITICAL))
    running.stop(5.0)

    assert (site.state / "spool").read_text().count("\n") == 2


def test_a_state_that_cannot_be_written_is_tried_again(
    site: Site, hipchat_room: HipChatRoom, agent: Callable[[], flipbell.Flipbell]
) -> None:
    site.channel(hipchat_room.url)
    site.state.write_text("in the way")
    running = agent()

    running.report(CheckResult("h", "c", Status.CRITICAL))
    running.stop(0.2)  # nothing could be recorded, and nothing raised
    site.state.unlink()
    running.report(CheckResult("h", "d", Status.CRITICAL))

    hipchat_room.wait_for(2)


def test_what_another_process_recorded_is_not_taken_for_unchanged(
    site: Site, hipchat_room: HipChatRoom, agent: Callable[[], flipbell.Flipbell]
) -> None:
    site.channel(hipchat_room.url)
    running = agent()
    running.report(CheckResult("web-01", "disk", Status.CRITICAL))
    hipchat_room.wait_for(1)

    site.run("disk", 0)
    hipchat_room.wait_for(2)

    def is_told() -> bool:  # within the second after which it looks
        running.report(CheckResult("web-01", "disk", Status.CRITICAL))
        return len(hipchat_room.heard) > 2

    until(is_told)

    assert hipchat_room.statuses[:3] == ["CRITICAL", "OK", "CRITICAL"]


def test_a_stop_with_the_room_down_is_bounded_and_a_courier_delivers_the_rest(
    site: Site, hipchat_room: HipChatRoom, agent: Callable[[], flipbell.Flipbell]
) -> None:
    site.channel(hipchat_room.url)
    hipchat_room.otherwise = Answer(503)
    running = agent()

    running.report(CheckResult("h", "c", Status.CRITICAL))
    hipchat_room.wait_for_requests(1)
    running.stop(0.1)
    hipchat_room.otherwise = Answer()

    hipchat_room.wait_for(1)


def test_a_stop_leaves_a_courier_also_where_the_one_before_had_done_all(
    site: Site, hipchat_room: HipChatRoom, agent: Callable[[], flipbell.Flipbell]
) -> None:
    site.channel(hipchat_room.url)
    running = agent()
    running.report(CheckResult("h", "c", Status.OK))
    until(lambda: site.status()["checks"] == 1 and site.status()["courier"] is False)
    hipchat_room.otherwise = Answer(503)

    running.report(CheckResult("h", "c", Status.CRITICAL))
    hipchat_room.wait_for_requests(1)
    running.stop(0.1)
    hipchat_room.otherwise = Answer()

    assert [heard.status for heard in hipchat_room.wait_for(1)] == ["CRITICAL"]


def test_what_is_in_memory_is_said_again_after_a_reset(
    site: Site, hipchat_room: HipChatRoom, agent: Callable[[], flipbell.Flipbell]
) -> None:
    site.channel(hipchat_room.url)
    running = agent()
    problem = CheckResult("h", "c", Status.CRITICAL)
    running.report(problem)
    hipchat_room.wait_for(1)
    until(lambda: site.status()["courier"] is False)
    for file in [*site.state.glob("ledger*"), site.state / "spool"]:
        file.unlink()
    site.run("other", 2)  # a new ledger comes, which knows nothing of this agent's checks
    site.deliver()

    def is_known_again() -> bool:
        running.report(problem)
        return len(site.status()["failing"]) == 2

    until(is_known_again)


KILLED = """
import os, signal, sys, flipbell
running = flipbell.start("agent")
running.report(flipbell.CheckResult("h", "c", flipbell.Status.CRITICAL))
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_kill_right_after_the_call_is_healed_by_the_next_result(
    site: Site, hipchat_room: HipChatRoom
) -> None:
    site.channel(hipchat_room.url)

    for _ in range(5):
        assert run_python(site, KILLED).returncode == -9
    run_python(site, KILLED.replace("os.kill", "running.stop(10.0) or os.kill"))
    site.deliver()

    assert hipchat_room.statuses == ["CRITICAL"]


DAEMON = """
import os, sys, time, flipbell, pluggy
host = pluggy.PluginManager("someagent")
flipbell.attach(host)
host.hook.flipbell_check_result(result=flipbell.CheckResult("h", "before", 2))
if os.fork():
    os._exit(0)
os.setsid()
if os.fork():
    os._exit(0)
for check in ("before", "after"):
    host.hook.flipbell_check_result(result=flipbell.CheckResult("h", check, 2))
host.hook.flipbell_agent_stopping(timeout=10.0)
"""


def test_an_agent_that_becomes_a_daemon_after_attaching(
    site: Site, hipchat_room: HipChatRoom
) -> None:
    site.channel(hipchat_room.url)
    site.environ = unmeasured(site.environ)  # coverage takes long to end a forked process

    assert run_python(site, DAEMON).returncode == 0
    hipchat_room.wait_for(2)
    site.deliver()

    # The parent may have died while it was sending: then that one is repeated, and says so.
    once = [heard for heard in hipchat_room.heard if not heard.is_repeat]
    checks = {str(heard.body["message"]).rsplit(": ", 1)[1] for heard in hipchat_room.heard}
    assert checks == {"after on h", "before on h"}
    assert len(once) <= 2


SILENT_END = """
import flipbell
flipbell.start("agent").report(flipbell.CheckResult("h", "c", flipbell.Status.CRITICAL))
"""


def test_an_agent_that_ends_without_a_word_loses_nothing(
    site: Site, hipchat_room: HipChatRoom
) -> None:
    site.channel(hipchat_room.url)

    assert run_python(site, SILENT_END).stderr == b""

    hipchat_room.wait_for(1)


def test_a_forked_child_does_not_keep_the_couriers_lock(
    site: Site, hipchat_room: HipChatRoom
) -> None:
    """A child that outlives the agent must not look like a courier that lives."""
    import fcntl

    site.channel(hipchat_room.url)
    script = """
import os, flipbell, sys, time
running = flipbell.start("agent")
running.report(flipbell.CheckResult("h", "c", flipbell.Status.CRITICAL))
while running._courier is None:
    time.sleep(0.001)
child = os.fork()
if child == 0:
    sys.stdin.read()
    os._exit(0)
os.kill(os.getpid(), 9)
"""
    gate = threading.Event()
    hipchat_room.otherwise = Answer(gate=gate)
    environ = unmeasured(site.environ)  # in a forked child, coverage's own threads would hang
    with Process([sys.executable, "-c", script], env=environ, stdin=subprocess.PIPE) as process:
        process.wait(20)
        with (site.state / "courier.lock").open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        gate.set()


def test_a_result_that_came_too_late_is_not_taken_for_the_truth(
    site: Site, hipchat_room: HipChatRoom, agent: Callable[[], flipbell.Flipbell]
) -> None:
    site.channel(hipchat_room.url)
    running = agent()
    now = time.time()

    running.report(CheckResult("h", "c", Status.CRITICAL, "", now - 1))
    running.report(CheckResult("h", "c", Status.OK, "", now - 11))  # an overlapping, older run
    running.report(CheckResult("h", "c", Status.OK, "", now))
    running.stop(10.0)

    assert hipchat_room.statuses == ["CRITICAL", "OK"]


def test_a_result_that_is_older_than_another_checks_is_not_mistaken(
    site: Site, hipchat_room: HipChatRoom, agent: Callable[[], flipbell.Flipbell]
) -> None:
    site.channel(hipchat_room.url)
    running = agent()
    now = time.time()

    for check, status, ago in (
        ("slow", Status.CRITICAL, 20),
        ("quick", Status.OK, 1),
        ("slow", Status.OK, 10),  # late beside the other check, and still in time for its own
        ("slow", Status.CRITICAL, 5),
    ):
        running.report(CheckResult("h", check, status, "", now - ago))
    running.stop(10.0)

    assert hipchat_room.statuses == ["CRITICAL", "OK", "CRITICAL"]


@pytest.mark.parametrize("time_", [float("nan"), float("inf"), -1e18, 1e305, 10**400])
def test_no_time_that_an_agent_gives_ends_anything(
    site: Site,
    hipchat_room: HipChatRoom,
    agent: Callable[[], flipbell.Flipbell],
    time_: float,
) -> None:
    site.channel(hipchat_room.url)
    running = agent()

    running.report(CheckResult("h", "odd", Status.CRITICAL, "", time_))
    running.report(CheckResult("h", "good", Status.CRITICAL))
    running.stop(10.0)

    assert hipchat_room.statuses == ["CRITICAL", "CRITICAL"]


def test_an_agent_with_thousands_of_open_files(site: Site, hipchat_room: HipChatRoom) -> None:
    site.channel(hipchat_room.url)
    script = """
import os, resource, flipbell
resource.setrlimit(resource.RLIMIT_NOFILE, (4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
opened = [os.dup(0) for _ in range(1500)]
with flipbell.start("agent") as running:
    for status in (2, 0):
        running.report(flipbell.CheckResult("h", "c", status))
    running.stop(10.0)
"""

    assert run_python(site, script).stderr == b""

    assert hipchat_room.statuses == ["CRITICAL", "OK"]
    assert not hipchat_room.heard[0].is_repeat


class _Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError


def test_an_agent_that_gives_what_cannot_be_shown(
    site: Site, agent: Callable[[], flipbell.Flipbell]
) -> None:
    agent().report(_Unprintable())  # type: ignore[arg-type]

    assert not site.state.exists()


def test_a_courier_that_cannot_be_made_frees_its_lock(
    site: Site,
    hipchat_room: HipChatRoom,
    agent: Callable[[], flipbell.Flipbell],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    site.channel(hipchat_room.url)
    running = agent()
    failed = threading.Event()

    def fail(_: int) -> None:
        failed.set()
        raise OSError("too many open files")

    monkeypatch.setattr(running, "_start_courier", fail)
    running.report(CheckResult("h", "c", Status.CRITICAL))
    assert failed.wait(10)
    monkeypatch.undo()
    site.deliver()

    assert hipchat_room.statuses == ["CRITICAL"]


INTERRUPTED = """
import os, signal, threading, flipbell
running = flipbell.start("agent")
signal.signal(signal.SIGTERM, lambda *_: (running.stop(5.0), os._exit(7)))
with running._lock:  # as in the middle of a report
    os.kill(os.getpid(), signal.SIGTERM)
    signal.pause()
"""


def test_a_signal_handler_may_stop_in_the_middle_of_a_report(site: Site) -> None:
    assert run_python(site, INTERRUPTED).returncode == 7


def test_the_drop_in_for_pluggy_hosts(site: Site, hipchat_room: HipChatRoom) -> None:
    site.channel(hipchat_room.url)
    drop_in = shipped("hooks/pluggy/flipbell_hook.py")
    script = f"""
import importlib.util, pluggy
host = pluggy.PluginManager("someagent")
spec = importlib.util.spec_from_file_location("flipbell_hook", {str(drop_in)!r})
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
module.register(host)
import flipbell
host.hook.flipbell_agent_started(agent="someagent")
host.hook.flipbell_check_result(result=flipbell.CheckResult("h", "c", 2))
host.hook.flipbell_agent_stopping(timeout=10.0)
"""

    assert run_python(site, script).returncode == 0

    assert hipchat_room.statuses == ["CRITICAL"]


def test_nothing_is_printed_into_the_agent(site: Site) -> None:
    site.environ["FLIPBELL_STATE"] = "/dev/null/nowhere"

    done = run_python(site, SILENT_END)

    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
