"""The values: statuses as agents write them, results that an agent got wrong."""

from __future__ import annotations

import pytest

from flipbell import CheckResult, Status


@pytest.mark.parametrize(
    ("code", "status"),
    [(0, Status.OK), (1, Status.WARNING), (2, Status.CRITICAL), (3, Status.UNKNOWN)]
    + [(code, Status.UNKNOWN) for code in (4, 42, 255, -9)],
)
def test_an_exit_status_that_is_not_0_to_3_is_unknown(code: int, status: Status) -> None:
    assert Status.from_exit_status(code) is status
    assert Status.parse(code) is status
    assert Status.parse(str(code)) is status


@pytest.mark.parametrize("word", ["CRITICAL", "critical", " Critical\n"])
def test_words_in_any_case(word: str) -> None:
    assert Status.parse(word) is Status.CRITICAL


@pytest.mark.parametrize("value", ["", "bad", None, True, 1.5, "OKAY"])
def test_refuses_what_is_no_status(value: object) -> None:
    with pytest.raises(ValueError, match="expected OK, WARNING, CRITICAL, UNKNOWN"):
        Status.parse(value)


@pytest.mark.parametrize("value", [2, "critical", "2", Status.CRITICAL])
def test_a_result_takes_a_status_as_agents_have_it(value: object) -> None:
    assert CheckResult("h", "c", value).status is Status.CRITICAL  # type: ignore[arg-type]


def test_a_result_of_no_status_is_unknown() -> None:
    assert CheckResult("h", "c", None).status is Status.UNKNOWN  # type: ignore[arg-type]


@pytest.mark.parametrize(("value", "text"), [(b"a\xff", "a\ufffd"), (None, ""), (5, "5")])
def test_a_result_takes_any_output(value: object, text: str) -> None:
    assert CheckResult("h", "c", Status.OK, value).output == text  # type: ignore[arg-type]


def test_the_package_has_no_other_names() -> None:
    import flipbell

    assert {name for name in flipbell.__all__ if getattr(flipbell, name)} == set(flipbell.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = flipbell.nonsense
