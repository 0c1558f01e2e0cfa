"""What a courier inherits from the check that started it, and how it gets rid of that.

Limits, priorities and the umask of one check are not meant for a process that serves all others.
What the kernel does not let it shed is logged. A courier that cannot work with what is left gives
way, so that a later front, which may inherit less, starts another.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

UNFIT = "unfit"  # a link that says which limits a courier could not work with, and why
_LEAVE_ALONE_FOR = 60.0  # seconds until a front with the same limits tries again
_LONGEST = 1000  # bytes
_FILES = 64
_BYTES = 1 << 20
_ADDRESSES = 64 << 20  # bytes of address space that threads and TLS need beside what is loaded
_LARGE = ("FSIZE", "AS", "DATA", "RSS", "CPU", "NOFILE", "NPROC", "MEMLOCK")
_OOM = "/proc/self/oom_score_adj"
_NEEDED = ("requests", "sqlite3", "yaml", "flipbell.cli.courier", "flipbell.courier")
# The numbers of ioprio_set and ioprio_get, for which Python has no function.
_IO_CALLS = {
    "x86_64": (251, 252),
    "aarch64": (30, 31),
    "riscv64": (30, 31),
    "ppc64le": (273, 274),
    "s390x": (282, 283),
}


def is_hopeless(directory: str) -> bool:
    """Return whether a courier with this process's limits has just given way.

    Each try costs the start of a Python, so fronts that all have such limits try once a minute.
    """
    path = f"{directory}/{UNFIT}"
    try:
        age = time.time() - os.lstat(path).st_mtime
        return 0 <= age < _LEAVE_ALONE_FOR and os.readlink(path).split(" ")[0] == _handicap()
    except OSError:
        return False


def last_fault(directory: str) -> str | None:
    """Return why the last courier gave way, or None if it did not."""
    try:
        return os.readlink(f"{directory}/{UNFIT}").partition(" ")[2]
    except OSError:
        return None


def is_fit(directory: str) -> bool:
    """Shed what was inherited; return whether a courier can work with what is left."""
    handicap = _handicap()
    remains = shed()
    fault = _fault(directory)
    if fault is not None:
        _give_way(directory, handicap, fault)
        return False
    with contextlib.suppress(OSError):
        os.unlink(f"{directory}/{UNFIT}")
    if remains:
        from flipbell import log

        log.warning(f"the courier keeps what it was started with: {', '.join(remains)}")
    return True


def shed() -> list[str]:
    """Shed what was inherited as far as the kernel allows; return what remains."""
    os.umask(0o077)
    return [*_raise_limits(), *_reset_priority(), *_reset_io_priority(), *_reset_oom_score()]


def raise_soft_limits() -> None:
    """Raise every soft limit to the hard one, but for the size of a core, which holds tokens."""
    import resource

    for number in _limits().values():
        hard = resource.getrlimit(number)[1]
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(number, (hard, hard))


def _limits() -> dict[str, int]:
    """Return the numbers of the limits that this system has, by name."""
    import resource

    return {
        name.removeprefix("RLIMIT_"): number
        for name, number in vars(resource).items()
        if name.startswith("RLIMIT_") and name not in ("RLIMIT_CORE", "RLIMIT_OFILE")
    }


def _raise_limits() -> Iterator[str]:
    import resource

    raise_soft_limits()
    for name, number in _limits().items():
        hard = resource.getrlimit(number)[1]
        if name not in ("FSIZE", "AS", "DATA", "CPU") or hard == resource.RLIM_INFINITY:
            continue
        try:
            resource.setrlimit(number, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        except (OSError, ValueError):  # only root may
            yield f"RLIMIT_{name} {hard}"
    files, most = _limits()["NOFILE"], 1024
    if resource.getrlimit(files)[1] < most:
        try:
            resource.setrlimit(files, (most, most))
        except (OSError, ValueError):
            yield f"RLIMIT_NOFILE {resource.getrlimit(files)[1]}"


def _reset_priority() -> Iterator[str]:
    if hasattr(os, "sched_setscheduler"):
        policy = os.sched_getscheduler(0)
        try:
            if policy != os.SCHED_OTHER:
                os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        except OSError:
            yield f"scheduling policy {policy}"
    nice = os.getpriority(os.PRIO_PROCESS, 0)
    try:
        if nice:
            os.setpriority(os.PRIO_PROCESS, 0, 0)
    except OSError:
        yield f"nice {nice}"


def _reset_io_priority() -> Iterator[str]:
    machine = os.uname().machine
    if machine not in _IO_CALLS:
        return
    try:
        import ctypes

        libc = ctypes.CDLL(None)
    except (ImportError, MemoryError, OSError):
        return
    put, get = _IO_CALLS[machine]
    this_process = (1, 0)
    before = libc.syscall(get, *this_process)
    if before > 0 and libc.syscall(put, *this_process, 0) != 0:
        yield f"I/O priority {before}"


def _reset_oom_score() -> Iterator[str]:
    try:
        with open(_OOM, encoding="ascii") as file:
            score = file.read().strip()
    except OSError:  # not Linux
        return
    try:
        if score != "0":
            with open(_OOM, "w", encoding="ascii") as file:
                file.write("0")
    except OSError:
        yield f"oom_score_adj {score}"


def _fault(directory: str) -> str | None:
    """Return why a courier cannot work with what it inherited, or None."""
    from threading import Thread

    faults: list[str] = []

    def load() -> None:
        try:
            _load()
        except Exception as error:  # noqa: BLE001  whatever an import raises for want of memory
            faults.append(f"cannot load what it needs ({type(error).__name__}: {error})")

    try:
        thread = Thread(target=load)
        thread.start()
        thread.join()
        if not faults:
            _open_files()
            _write(directory)
    except (RuntimeError, MemoryError):
        return "cannot start a thread"
    except OSError as error:
        return str(error)
    return faults[0] if faults else None


def _load() -> None:
    import importlib
    import mmap

    for name in _NEEDED:
        importlib.import_module(name)
    mmap.mmap(-1, _ADDRESSES).close()


def _open_files() -> None:
    opened: list[int] = []
    try:
        while len(opened) < _FILES:
            opened.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        raise OSError(f"cannot open {_FILES} files ({error.strerror})") from None
    finally:
        for each in opened:
            os.close(each)


def _write(directory: str) -> None:
    """Raise OSError if a file cannot have 1 MiB; a disk that is full is no inheritance."""
    from tempfile import TemporaryFile

    try:
        with TemporaryFile(dir=directory, buffering=0) as file:
            written = file.write(bytes(_BYTES))
            if written < _BYTES:  # up to the limit; only the next write raises
                file.write(b"\0")
    except OSError as error:
        if error.errno == errno.EFBIG:
            raise OSError(f"cannot write {_BYTES} bytes ({error.strerror})") from None


def _give_way(directory: str, handicap: str, fault: str) -> None:
    """Remember which limits are of no use, for later fronts; log it, once for the same limits."""
    path, said = f"{directory}/{UNFIT}", f"{handicap} {fault}"[:_LONGEST]
    try:
        before = os.readlink(path)
    except OSError:
        before = ""
    try:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        os.symlink(
            said, path
        )  # not a file, which a limit of its size could keep from being written
    except OSError as error:
        fault = f"{fault}; {error}"
    if said != before:
        _log(f"a courier for {directory} gives way to one that inherits less: {fault}")


def _log(message: str) -> None:
    """Log an error, if memory allows."""
    with contextlib.suppress(ImportError, MemoryError):
        from flipbell import log

        log.error(message)


def _handicap() -> str:
    """Return what tells one set of inherited limits from another."""
    import resource

    limits = _limits()
    hard = [resource.getrlimit(limits[name])[1] for name in _LARGE if name in limits]
    return ":".join(map(str, [os.geteuid(), *hard]))
