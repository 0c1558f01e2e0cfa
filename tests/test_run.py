"""`flipbell run`: the agent sees the check's own bytes, status, timing and death."""

from __future__ import annotations

import contextlib
import os
import pty
import signal
import socket
import subprocess
import sys
import tty
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from conftest import AS_MODULE, FLIPBELL, Process, unmeasured, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from conftest import Site

SH = ("sh", "-c")


@pytest.fixture(autouse=True, params=["launcher", "module"])
def _no_courier(site: Site, request: pytest.FixtureRequest) -> None:
    """Start each test's checks by the installed launcher, and once more where coverage sees it."""
    site.environ["FLIPBELL_COURIER"] = "off"
    site.command = AS_MODULE if request.param == "module" else [FLIPBELL]


class Start(Protocol):
    """Starts a wrapped check and returns while it runs."""

    def __call__(self, *command: str, **options: Any) -> subprocess.Popen[bytes]: ...


@pytest.fixture
def start(site: Site) -> Iterator[Start]:
    with contextlib.ExitStack() as stack:

        def _start(*command: str, **options: Any) -> subprocess.Popen[bytes]:
            options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
            arguments = [*site.command, "run", "--check", "x", "--", *command]
            process = subprocess.Popen(arguments, env=site.environ, **options)
            stack.enter_context(process)
            stack.callback(process.kill)
            return process

        yield _start


def _recorded(site: Site) -> list[list[str]]:
    """Return status and output of each line in the spool."""
    lines = (site.state / "spool").read_text().splitlines()[1:]
    return [[line.split("\t")[1], line.split("\t")[4]] for line in lines]


@pytest.mark.parametrize("code", [0, 1, 2, 3, 4, 42, 126, 127, 255])
def test_passes_every_exit_status(site: Site, code: int) -> None:
    done = site.flipbell("run", "--check", "x", "--", *SH, f"exit {code}")

    assert done.returncode == code
    assert _recorded(site) == [[str(min(code, 3)), ""]]


def test_passes_output_byte_for_byte(site: Site) -> None:
    content = bytes(range(256)) * 4096
    file = site.base / "output"
    file.write_bytes(content)

    done = site.flipbell("run", "--check", "x", "--", "cat", str(file))

    assert done.stdout == content
    assert done.stderr == b""


def test_stderr_stays_apart_where_the_agent_keeps_it_apart(site: Site) -> None:
    done = site.flipbell("run", "--check", "x", "--", *SH, "echo out; echo err >&2")

    assert (done.stdout, done.stderr) == (b"out\n", b"err\n")
    assert _recorded(site) == [["0", "out\\n"]]


def test_keeps_the_order_of_merged_stdout_and_stderr(start: Start) -> None:
    script = "for i in 1 2 3 4 5 6 7 8 9; do echo out $i; echo err $i >&2; done"
    expected = "".join(f"out {i}\nerr {i}\n" for i in range(1, 10)).encode()
    process = start(*SH, script, stderr=subprocess.STDOUT)

    assert process.communicate(timeout=20)[0] == expected


def test_a_check_reads_nothing_of_the_agents_stdin(site: Site) -> None:
    done = site.flipbell("run", "--check", "x", "--", "cat", stdin="the agent's")

    assert done.stdout == b""


def test_stdin_on_request(site: Site) -> None:
    done = site.flipbell("run", "--stdin", "--check", "x", "--", "cat", stdin="given\n")

    assert done.stdout == b"given\n"


def test_relays_output_as_it_comes(site: Site, start: Start) -> None:
    go_on = site.base / "go on"
    script = f"echo first; while [ ! -e '{go_on}' ]; do sleep 0.05; done; echo second"
    process = start(*SH, script)
    assert process.stdout is not None

    assert process.stdout.readline() == b"first\n"  # before the second can have been written
    go_on.touch()
    assert process.communicate(timeout=20)[0] == b"second\n"


@pytest.mark.parametrize("name", ["SIGTERM", "SIGKILL", "SIGSEGV", "SIGABRT", "SIGPIPE"])
def test_dies_of_the_signal_that_its_check_died_of(site: Site, name: str) -> None:
    number = getattr(signal, name)

    done = site.flipbell("run", "--check", "x", "--", *SH, f"kill -{number:d} $$")

    assert done.returncode == -number
    assert _recorded(site) == [["3", ""]]


def test_passes_sigterm_on_and_ends_as_the_check_ends(start: Start) -> None:
    script = "trap 'echo caught; exit 2' TERM; echo ready; while :; do sleep 0.05; done"
    process = start(*SH, script)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"

    process.terminate()

    assert process.communicate(timeout=20)[0] == b"caught\n"
    assert process.returncode == 2


def test_dies_of_sigterm_where_the_check_does(start: Start) -> None:
    process = start(*SH, "echo ready; exec sleep 60")
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"

    process.terminate()

    assert process.wait(20) == -signal.SIGTERM


@pytest.mark.skipif(sys.platform != "linux", reason="the leash needs F_SETSIG")
def test_the_check_does_not_outlive_a_wrapper_that_is_killed(start: Start) -> None:
    process = start(*SH, "echo $$; exec sleep 60")
    assert process.stdout is not None
    check = int(process.stdout.readline())

    process.kill()
    process.wait(20)

    until(lambda: not Path(f"/proc/{check}").exists())


def test_what_a_check_left_running_delays_nothing_and_still_reaches_the_agent(
    site: Site, start: Start
) -> None:
    go_on = site.base / "go on"
    wait = f"while [ ! -e '{go_on}' ]; do sleep 0.05; done"
    process = start(*SH, f"({wait}; echo late) & echo now; exit 1")
    assert process.stdout is not None

    assert process.wait(20) == 1  # though something holds the check's stdout
    assert process.stdout.readline() == b"now\n"
    go_on.touch()
    assert process.stdout.read() == b"late\n"


@pytest.mark.parametrize("size", [10, 3 << 20])
def test_a_check_learns_that_nobody_reads_its_output(start: Start, size: int) -> None:
    process = start("yes")
    assert process.stdout is not None
    process.stdout.read(size)

    process.stdout.close()

    assert process.wait(20) == -signal.SIGPIPE


MUCH = 3 << 20
NUMBERS = ["seq", "400000"]  # about 2.7 MB of lines that all differ


def test_much_output_to_a_pipe_is_moved_by_the_kernel(
    site: Site, tool: Callable[[str], str]
) -> None:
    trace = site.base / "trace"
    calls = "trace=read,write,splice"
    command = [tool("strace"), "-f", "-qq", "-e", calls, "-o", str(trace), *site.command]
    command += ["run", "--check", "x", "--", "head", "-c", str(16 << 20), "/dev/zero"]

    done = subprocess.run(
        command, env=unmeasured(site.environ), check=False, capture_output=True, timeout=60
    )

    assert done.stdout == bytes(16 << 20)
    made = [line.split(None, 1) for line in trace.read_text().splitlines()]
    (wrapper,) = {process for process, call in made if call.startswith("splice(")}
    writes = [call for process, call in made if process == wrapper and call.startswith("write(1, ")]
    assert len(writes) <= 2 * (1 << 20) // 4096  # the first megabyte, in small pieces


@pytest.mark.parametrize("sink", ["pipe", "file", "appended", "socket", "terminal"])
def test_much_output_is_passed_byte_for_byte(site: Site, start: Start, sink: str) -> None:
    expected = subprocess.run(NUMBERS, check=True, capture_output=True).stdout
    file = site.base / "output"
    ours, theirs = socket.socketpair()
    reading, writing = pty.openpty() if sink == "terminal" else os.pipe()
    if sink == "terminal":
        tty.setraw(writing)
    modes = {"file": "wb", "appended": "ab"}
    with contextlib.ExitStack() as stack:
        stdout: Any = {"socket": theirs}.get(sink, writing)
        if sink in modes:
            stdout = stack.enter_context(file.open(modes[sink]))
        process = start(*NUMBERS, stdout=stdout)
    os.close(writing)
    theirs.close()
    end = ours.fileno() if sink == "socket" else reading

    assert _read_all(end) == (b"" if sink in modes else expected)
    assert process.wait(20) == 0
    assert sink not in modes or file.read_bytes() == expected
    assert _recorded(site)[0][1] == expected[:4096].decode().replace("\n", "\\n")
    ours.close()
    os.close(reading)


def _read_all(file: int) -> bytes:
    content = b""
    with contextlib.suppress(OSError):  # how a terminal ends
        while block := os.read(file, 1 << 16):
            content += block
    return content


def test_much_output_keeps_the_order_of_merged_stdout_and_stderr(start: Start) -> None:
    loop = "while [ $i -lt 500 ]; do echo out $i; echo err $i >&2; i=$((i+1)); done"
    script = f"seq 300000; i=0; {loop}"
    process = start(*SH, script, stderr=subprocess.STDOUT)

    out = process.communicate(timeout=60)[0]

    assert out.endswith("".join(f"out {i}\nerr {i}\n" for i in range(500)).encode())


def test_relays_as_it_comes_after_much_output(site: Site, start: Start) -> None:
    go_on = site.base / "go on"
    script = f"head -c {MUCH} /dev/zero; echo first; while [ ! -e '{go_on}' ]; do sleep 0.05; done"
    process = start(*SH, f"{script}; echo second; exit 2")
    assert process.stdout is not None
    assert process.stdout.read(MUCH) == bytes(MUCH)

    assert process.stdout.readline() == b"first\n"  # before the second can have been written
    go_on.touch()
    assert process.communicate(timeout=20)[0] == b"second\n"
    assert process.returncode == 2


def test_much_output_of_what_a_check_left_running_still_reaches_the_agent(
    site: Site, start: Start
) -> None:
    go_on = site.base / "go on"
    wait = f"while [ ! -e '{go_on}' ]; do sleep 0.05; done"
    later = f"({wait}; head -c {MUCH} /dev/zero; echo late) &"
    process = start(*SH, f"head -c {MUCH} /dev/zero; {later} exit 1")
    assert process.stdout is not None
    assert process.stdout.read(MUCH) == bytes(MUCH)

    assert process.wait(20) == 1  # though something holds the check's stdout
    go_on.touch()
    assert process.stdout.read() == bytes(MUCH) + b"late\n"


def test_writes_all_to_a_pipe_that_does_not_block(start: Start) -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    process = start(*SH, "head -c 1000000 /dev/zero", stdout=writing)
    os.close(writing)

    with open(reading, "rb") as pipe:
        assert len(pipe.read()) == 1_000_000
    assert process.wait(20) == 0


def test_runs_with_its_standard_descriptors_closed(site: Site) -> None:
    script = f"'{FLIPBELL}' run --check x -- sh -c 'echo hi; exit 1' >&- 2>&- <&-"

    done = subprocess.run(["sh", "-c", script], env=site.environ, check=False, timeout=20)

    assert done.returncode == 1
    assert _recorded(site) == [["1", "hi\\n"]]


def test_runs_a_script_without_interpreter_line_as_a_shell_would(site: Site) -> None:
    script = site.base / "check it"
    script.write_text("echo args $1; exit 1\n")
    script.chmod(0o755)

    done = site.flipbell("run", "--check", "x", "--", str(script), "a b")

    assert (done.returncode, done.stdout) == (1, b"args a b\n")


def test_the_check_ignores_no_signal_that_python_ignores(site: Site) -> None:
    done = site.flipbell("run", "--check", "x", "--", "grep", "SigIgn", "/proc/self/status")

    ignored = int(done.stdout.split()[1], 16)
    assert not ignored & (1 << (signal.SIGPIPE - 1))
    assert not ignored & (1 << (signal.SIGXFSZ - 1))


def test_stays_in_the_agents_process_group(start: Start) -> None:
    script = "ps -o pgid= -p $$ | tr -d ' '"
    process = start(*SH, script, start_new_session=True)

    assert int(process.communicate(timeout=20)[0]) == process.pid


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "expected --check NAME"),
        (["--check"], "--check needs a value"),
        (["--check", "x"], "expected a command"),
        (["--check", "x", "--"], "expected a command"),
        (["--chekc", "x", "--", "true"], "unknown option --chekc"),
        (["-v", "--", "true"], "unknown option -v"),
        (["--check", "x" * 1025, "--", "true"], "longer than 1024 bytes"),
    ],
)
def test_a_wrong_call_is_a_check_that_could_not_check(
    site: Site, arguments: list[str], said: str
) -> None:
    done = site.flipbell("run", *arguments)

    assert done.returncode == 3
    assert done.stdout.startswith(b"UNKNOWN - flipbell: ")
    assert said in done.stdout.decode()
    assert done.stdout.count(b"\n") == 1
    assert done.stderr == b""


def test_a_command_that_cannot_be_started_is_recorded_as_unknown(site: Site) -> None:
    done = site.flipbell("run", "--check", "x", "--", "/no/such/check")

    reason = "cannot start /no/such/check: No such file or directory"
    assert (done.returncode, done.stdout.decode()) == (3, f"UNKNOWN - flipbell: {reason}\n")
    assert _recorded(site) == [["3", reason]]


def test_options_may_be_written_with_an_equals_sign(site: Site) -> None:
    done = site.flipbell("run", "--check=x y", "--host=web 1", "sh", "-c", "exit 2")

    assert done.returncode == 2
    assert "\tweb 1\tx y\t" in (site.state / "spool").read_text()


def test_help(site: Site) -> None:
    done = site.flipbell("run", "--help")

    assert done.returncode == 0
    assert b"example: flipbell run" in done.stdout


def test_runs_where_few_files_may_be_open(site: Site) -> None:
    script = f"ulimit -n 32; exec '{FLIPBELL}' run --check x -- sh -c 'echo hi; exit 1'"

    done = subprocess.run(
        ["sh", "-c", script], env=unmeasured(site.environ), check=False, capture_output=True
    )

    assert (done.returncode, done.stdout, done.stderr) == (1, b"hi\n", b"")


# Where an installation's path has a space, pip's launcher is a script of sh, which itself adds PWD
# and complains of a directory that is gone: these two are about flipbell without it.
DIRECT = (sys.executable, "-I", "-m", "flipbell", "run", "--check", "x", "--")


def test_the_check_gets_no_locale_that_the_agent_did_not_give(site: Site) -> None:
    names = ("FLIPBELL_STATE", "FLIPBELL_CONFIG", "FLIPBELL_COURIER", "PATH")
    environ = {name: site.environ[name] for name in names}

    def shown(**more: str) -> list[bytes]:
        done = subprocess.run(
            [*DIRECT, "/usr/bin/env"], env={**environ, **more}, check=True, capture_output=True
        )
        return sorted(line.split(b"=")[0] for line in done.stdout.splitlines())

    assert shown() == sorted(name.encode() for name in names)
    assert b"LC_CTYPE" in shown(LC_CTYPE="C.UTF-8")


def test_runs_in_a_directory_that_is_gone(site: Site) -> None:
    site.environ.update(FLIPBELL_CONFIG="relative")
    script = 'mkdir gone && cd gone && rmdir ../gone && exec "$@"'

    done = subprocess.run(
        ["sh", "-c", script, "sh", *DIRECT, "echo", "hi"],
        env=unmeasured(site.environ),
        cwd=site.base,
        check=False,
        capture_output=True,
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, b"hi\n", b"")


def _block(*numbers: signal.Signals) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, numbers)


def test_runs_where_the_agent_blocks_the_death_of_its_children(site: Site, start: Start) -> None:
    go_on = site.base / "go on"
    script = f"echo hi; while [ ! -e '{go_on}' ]; do sleep 0.05; done; exit 1"
    process = start(*SH, script, preexec_fn=lambda: _block(signal.SIGCHLD))
    assert process.stdout is not None
    assert process.stdout.readline() == b"hi\n"  # so that it ends only when it is watched

    go_on.touch()

    assert process.wait(20) == 1


def test_dies_of_a_signal_that_the_agent_blocks(start: Start) -> None:
    code = "import os, signal as s; s.pthread_sigmask(s.SIG_SETMASK, []), os.kill(os.getpid(), 15)"
    process = start(sys.executable, "-c", code, preexec_fn=lambda: _block(signal.SIGTERM))

    assert process.wait(20) == -signal.SIGTERM


@pytest.mark.parametrize("size", [0, 3 << 20])
def test_sigterm_ends_it_also_where_nobody_reads(start: Start, size: int) -> None:
    process = start("yes")
    assert process.stdout is not None
    process.stdout.read(size)
    until(lambda: _is_full(process.stdout))

    process.terminate()

    assert process.wait(20) == -signal.SIGTERM


def _is_full(pipe: Any) -> bool:
    """Return whether a pipe of the usual size holds all that it can."""
    import fcntl
    import struct
    import termios

    waiting = fcntl.ioctl(pipe, termios.FIONREAD, struct.pack("i", 0))
    return bool(struct.unpack("i", waiting)[0] >= 1 << 16)


def test_a_slow_reader_gets_all_of_a_check_that_has_ended(start: Start) -> None:
    process = start("head", "-c", "300000", "/dev/zero")
    assert process.stdout is not None
    until(lambda: _is_full(process.stdout))

    assert len(process.stdout.read()) == 300_000
    assert process.wait(20) == 0


def test_a_signal_that_comes_as_the_check_ends_changes_nothing(
    site: Site, tool: Callable[[str], str]
) -> None:
    delayed = [tool("strace"), "-f", "-qq", "-o", "/dev/null", "-e", "trace=wait4"]
    delayed += ["-e", "inject=wait4:delay_exit=700000"]  # microseconds after the kernel's answer
    script = "echo hi; sleep 0.2; exit 2"
    command = [*delayed, *site.command, "run", "--check", "x", "--", *SH, script]
    with Process(command, env=unmeasured(site.environ), stdout=-1, stderr=-1) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"hi\n"
        check = until(lambda: _wrapper_of(process.pid))
        until(lambda: not Path(f"/proc/{check[1]}").exists())  # waited for, but not yet known
        os.kill(check[0], signal.SIGTERM)
        out, err = process.communicate(timeout=30)

    assert (process.returncode, out, err) == (2, b"", b"")


def _wrapper_of(tracer: int) -> tuple[int, int] | None:
    """Return the processes of the wrapper and of its check, below a tracer."""
    below = Path(f"/proc/{tracer}/task/{tracer}/children").read_text().split()
    for wrapper in below:
        inner = Path(f"/proc/{wrapper}/task/{wrapper}/children").read_text().split()
        if inner:
            return int(wrapper), int(inner[0])
    return None


def test_a_script_without_interpreter_line_is_found_along_the_path(site: Site) -> None:
    script = site.base / "check-it"
    script.write_text("echo args $1; exit 1\n")
    script.chmod(0o755)
    site.environ["PATH"] = f"{site.environ['PATH']}:{site.base}"

    done = site.flipbell("run", "--check", "x", "--", "check-it", "a")

    assert (done.returncode, done.stdout) == (1, b"args a\n")


def test_a_courier_hears_signals_that_the_agent_blocks(site: Site) -> None:
    del site.environ["FLIPBELL_COURIER"]
    site.environ = unmeasured(site.environ)
    site.config.rmdir()  # keeps the courier waiting for a configuration
    command = [*site.command, "run", "--check", "x", "--", *SH, "exit 2"]

    subprocess.run(
        command,
        env=site.environ,
        check=False,
        preexec_fn=lambda: _block(signal.SIGTERM),
    )

    courier = until(site.couriers)[0]
    until((site.state / "ledger").exists)
    os.kill(courier, signal.SIGTERM)
    until(lambda: not site.couriers())


def test_leaves_no_dead_children_to_an_agent_that_is_its_own_init(site: Site) -> None:
    code = f"""
import ctypes, os, subprocess
ctypes.CDLL(None).prctl(36, 1)  # PR_SET_CHILD_SUBREAPER
for status in "12":
    wrapped = ["run", "--check", "x", "--", "sh", "-c", "exit " + status]
    subprocess.run([*{site.command!r}, *wrapped])
print(open(f"/proc/self/task/{{os.getpid()}}/children").read().split())
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env=site.environ, check=True, capture_output=True
    )

    assert done.stdout == b"[]\n"


def test_a_stuck_lock_delays_the_answer_by_its_limit_only(site: Site) -> None:
    import fcntl

    site.run("x", 0)
    with (site.state / "append.lock").open("r+") as stuck:
        fcntl.flock(stuck, fcntl.LOCK_EX)
        site.run("x", 2)  # returns although the lock is held: a hang fails by time-out
        assert len(_recorded(site)) == 1
    until(lambda: len(_recorded(site)) == 2)  # the child that was left behind has recorded it


def test_a_tokens_variable_does_not_reach_the_check(site: Site) -> None:
    site.environ["OPS_TOKEN"] = site.environ["OTHER"] = "made-up"
    site.channel("http://127.0.0.1:1", token_env="OPS_TOKEN")

    done = site.flipbell("run", "--check", "x", "--", "env")

    assert b"OPS_TOKEN" not in done.stdout
    assert b"OTHER=made-up" in done.stdout


def test_a_courier_holds_no_descriptor_of_the_agent(site: Site) -> None:
    del site.environ["FLIPBELL_COURIER"]
    site.environ = unmeasured(site.environ)
    site.config.rmdir()  # keeps the courier waiting for a configuration
    reading, writing = os.pipe()

    site.flipbell("run", "--check", "x", "--", "sh", "-c", "exit 2", pass_fds=[writing])
    os.close(writing)

    assert os.read(reading, 1) == b""  # blocks for as long as anybody holds the other end
    courier = until(site.couriers)[0]
    ours = (str(site.state), "/dev/null", "pipe:")
    until(lambda: all(link.startswith(ours) for link in _links(courier)))  # once it has started
    os.close(reading)


def _links(pid: int) -> list[str]:
    """Return what a process has open, and is not closing just now."""
    found = []
    for descriptor in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            found.append(os.readlink(f"/proc/{pid}/fd/{descriptor}"))
    return found


def test_a_check_on_a_terminal_is_interrupted_as_usual(start: Start) -> None:
    master, slave = pty.openpty()
    script = "echo ready; exec sleep 60"
    process = start(*SH, script, stdin=slave, stdout=slave, stderr=slave, preexec_fn=_tty)
    os.close(slave)
    assert b"ready" in os.read(master, 100)

    os.write(master, b"\x03")

    assert process.wait(20) == -signal.SIGINT
    with contextlib.suppress(OSError):
        os.close(master)


def _tty() -> None:
    import fcntl
    import termios

    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def test_imports_next_to_nothing() -> None:
    heavy = (
        "yaml requests pluggy sqlite3 argparse subprocess logging enum dataclasses typing re json"
    )
    code = f"import sys, flipbell.run; print([n for n in {heavy.split()} if n in sys.modules])"

    done = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path += {sys.path}; {code}"],
        check=True,
        capture_output=True,
    )

    assert done.stdout == b"[]\n"
