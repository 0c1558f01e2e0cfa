"""The spool: bytes in, the same bytes out, whatever was torn in between."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flipbell import recorder, spool, state
from flipbell.model import CheckResult, Status


@pytest.fixture
def directory(tmp_path: Path) -> str:
    made = tmp_path / "state"
    state.prepare(str(made))
    return str(made)


def _line(check: str, output: bytes = b"") -> bytes:
    return spool.encode(b"h", check.encode(), 2, output, 1.5)


def _checks(lines: list[bytes]) -> list[str]:
    return [str(found[3]) for line in lines if (found := spool.decode(line)) is not None]


@given(
    st.binary(max_size=200), st.binary(max_size=200), st.binary(max_size=4096), st.integers(0, 3)
)
def test_a_line_brings_back_what_went_in(
    host: bytes, check: bytes, output: bytes, status: int
) -> None:
    line = spool.encode(host, check, status, output, 1_795_400_000.25)

    assert line.count(b"\n") == 1
    assert spool.decode(line[:-1]) == (
        1_795_400_000.25,
        status,
        *(value.decode("utf-8", "replace") for value in (host, check, output)),
        False,
    )


@given(st.binary())
def test_any_bytes_can_be_decoded(line: bytes) -> None:
    spool.decode(line)


def test_a_result_with_any_text_makes_a_line() -> None:
    result = CheckResult("h\udcff", "c\ud800", Status.OK, "x" * 10_000, 1.0)

    found = spool.decode(recorder.line(result)[:-1])

    assert found is not None
    assert found[2:4] == ("h\ufffd", "c?")
    assert len(found[4]) == spool.OUTPUT_LIMIT


def test_reads_what_was_appended_and_goes_on_from_there(directory: str) -> None:
    reader = spool.Reader(directory)
    assert list(reader.lines()) == []

    spool.append(directory, _line("a") + _line("b"))
    assert _checks(list(reader.lines())) == ["a", "b"]
    assert reader.is_at_end()
    begin, end = spool.append(directory, _line("c"))

    assert begin == reader.position
    assert _checks(list(spool.Reader(directory, begin).lines())) == ["c"]
    assert spool.end(directory) == end


def test_a_line_longer_than_the_readers_block(directory: str) -> None:
    spool.append(directory, _line("a", b"x" * 4000) + _line("b"))

    reader = spool.Reader(directory)

    assert _checks(list(reader.lines(limit=100))) == ["a", "b"]


def test_a_torn_line_is_closed_by_the_next_writer(directory: str) -> None:
    spool.append(directory, _line("a"))
    with (Path(directory) / "spool").open("ab") as file:
        file.write(b"123\t2\thos")
    reader = spool.Reader(directory)

    assert _checks(list(reader.lines())) == ["a"]
    assert reader.is_at_end()
    spool.append(directory, _line("b"))
    assert _checks(list(reader.lines())) == ["b"]


@pytest.mark.parametrize("foreign", [b"what is this\n", b"\0" * 100, b"flipbell-spool 9 x - 0\n"])
def test_a_header_that_is_not_ours_loses_no_line(directory: str, foreign: bytes) -> None:
    (Path(directory) / "spool").write_bytes(foreign)
    spool.append(directory, _line("a"))

    assert _checks(list(spool.Reader(directory).lines())) == ["a"]


def test_rotates_only_where_all_was_taken(directory: str) -> None:
    spool.append(directory, _line("a") + _line("b"))
    reader = spool.Reader(directory)
    assert spool.rotate(directory, reader, 10) == reader.position

    list(reader.lines())
    taken = reader.position
    assert spool.rotate(directory, reader, 10_000) == taken
    fresh = spool.rotate(directory, reader, 10)
    spool.append(directory, _line("c"))

    assert fresh[0] != taken[0]
    for position in (fresh, taken):  # the new spool names the old one's end
        after = spool.Reader(directory, position)
        assert _checks(list(after.lines())) == ["c"]
        assert not after.missed


def test_notices_that_lines_are_gone(directory: str) -> None:
    begin, _ = spool.append(directory, _line("a"))
    os.unlink(f"{directory}/spool")
    spool.append(directory, _line("b"))

    reader = spool.Reader(directory, begin)

    assert _checks(list(reader.lines())) == ["b"]
    assert reader.missed


def test_files_are_private_whatever_the_umask(directory: str) -> None:
    before = os.umask(0o777)
    try:
        spool.append(directory, _line("a"))
        spool.append(directory, _line("b"))
    finally:
        os.umask(before)

    modes = {entry.name: entry.stat().st_mode & 0o777 for entry in os.scandir(directory)}
    assert modes == {"spool": 0o600, "append.lock": 0o600}


def test_threads_append_whole_lines(directory: str) -> None:
    def append(name: int) -> None:
        for number in range(25):
            spool.append(directory, _line(f"{name}-{number}", b"x" * 1000))

    threads = [threading.Thread(target=append, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    checks = _checks(list(spool.Reader(directory).lines()))
    assert sorted(checks) == sorted(f"{a}-{b}" for a in range(8) for b in range(25))


def test_a_spool_that_nobody_takes_from_does_not_fill_the_disk(
    directory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "LARGEST", 1000)
    recorder.append(directory, [_line("a", b"x" * 2000)])

    with pytest.raises(OSError, match="no courier takes from it"):
        recorder.append(directory, [_line("b")])


def test_space_is_set_aside_without_growing_the_file(directory: str) -> None:
    recorder.append(directory, [_line("a")])
    before = os.stat(f"{directory}/spool")

    spool.reserve(directory)

    after = os.stat(f"{directory}/spool")
    assert after.st_size == before.st_size
    if after.st_blocks * 512 < 1 << 20:
        pytest.skip("this file system sets nothing aside")
    spool.reserve(directory)  # there already
    assert os.stat(f"{directory}/spool").st_blocks == after.st_blocks
