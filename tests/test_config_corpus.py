"""Configurations, broken and valid: what the reader says of each, and that the schema agrees.

A broken file ends with what is expected of it, a line `#! LINE:COLUMN: …` for each problem.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conftest import shipped
from flipbell import config
from flipbell.channels.hipchat import HipChat

CORPUS = Path(__file__).parent / "data" / "conf.d"
BROKEN = sorted(CORPUS.glob("broken/*.yaml"))
VALID = sorted(CORPUS.glob("valid/*.yaml"))
TYPES = {"hipchat": HipChat()}
SCHEMA = jsonschema.Draft7Validator(json.loads(shipped("conf.d/schema.json").read_text()))
REMEDY = re.compile(
    r"expected|did you mean|required|remove|rename|put it in quotes|; (add|check|indent|keep|save|"
    r"write|use) |use |needs |write "
)
PARSED_AWAY = "the parser that comes before the schema leaves no trace of it"
ELSEWHERE = "it may stand in the defaults of another file"
ZONES = "which time zones there are is the host's own list"
BEYOND_THE_SCHEMA = {
    "channel-name-boolean": PARSED_AWAY,
    "channel-twice": PARSED_AWAY,
    "everything-required": ELSEWHERE,
    "key-twice": PARSED_AWAY,
    "merge-key": PARSED_AWAY,
    "mention-in-html": ELSEWHERE,
    "notify-status-twice": PARSED_AWAY,
    "notify-status-twice-in-two-spellings": PARSED_AWAY,
    "room-hexadecimal": PARSED_AWAY,
    "room-octal": PARSED_AWAY,
    "room-sexagesimal": PARSED_AWAY,
    "room-underscores": PARSED_AWAY,
    "timeout-nan": PARSED_AWAY,
    "token-number": PARSED_AWAY,
    "timezone-misspelt": ZONES,
    "timezone-of-defaults": ZONES,
    "type-unknown": "an extension may bring the type",
}


def _named(files: list[Path]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("file", files, ids=[file.stem for file in files])


def _problems(directory: Path, file: Path) -> list[str]:
    shutil.copy(file, directory)
    loaded = config.load(str(directory), TYPES)
    return [str(problem).removeprefix(f"{directory}/{file.name}:") for problem in loaded.problems]


def _expected(file: Path) -> list[str]:
    lines = file.read_bytes().split(b"\n")
    return [line[3:].decode() for line in lines if line.startswith(b"#! ")]


def test_the_corpus_is_large() -> None:
    assert len(BROKEN) >= 60
    assert len(VALID) >= 15


@_named(BROKEN)
def test_a_broken_configuration(tmp_path: Path, file: Path) -> None:
    expected = _expected(file)

    assert expected
    assert _problems(tmp_path, file) == expected


@_named(BROKEN)
def test_a_problem_has_place_key_and_remedy(file: Path) -> None:
    for problem in _expected(file):
        place, key, message = re.match(  # type: ignore[union-attr]
            r"(\d+:\d+): (?:warning: )?(?:((?:channels|defaults|\w+)\S*): )?(.*)", problem
        ).groups()
        is_of_the_text = re.match(r"not valid YAML|expected|a character|anchors|tags|nest", message)
        assert place
        assert key or is_of_the_text, problem
        assert REMEDY.search(message), problem


@_named(VALID)
def test_a_valid_configuration(tmp_path: Path, file: Path) -> None:
    assert _problems(tmp_path, file) == []
    assert _schema_accepts(file)


@_named(BROKEN)
def test_the_schema_judges_as_the_reader_does(file: Path) -> None:
    is_broken = any("warning: " not in problem for problem in _expected(file))
    is_beyond = file.stem in BEYOND_THE_SCHEMA

    assert _schema_accepts(file) is (is_beyond or not is_broken)


def _schema_accepts(file: Path) -> bool:
    try:
        content = yaml.safe_load(file.read_bytes().decode("utf-8-sig"))
    except (yaml.YAMLError, UnicodeDecodeError, TypeError):  # TypeError: a list as a key
        return False
    return SCHEMA.is_valid({} if content is None else _as_json(content))


def _as_json(value: Any) -> Any:
    """Return what an editor judges, where every key is a text."""
    if isinstance(value, dict):
        return {str(key): _as_json(inner) for key, inner in value.items()}
    return [*map(_as_json, value)] if isinstance(value, list) else value


TEXTS = ["web-*", "", "a b", "監視", "x" * 65, "x" * 101, "a\nb", "a\x7fb", "..", "true", "$5"]
SCALARS: list[Any] = [True, False, None, 0, 1, -1, 42, 10_001, 0.5, 121.5, [], {}, *TEXTS]
STATUSES = ["OK", "Critical", "unknown", "warn", "", "on"]
FLAGS = st.sampled_from([True, False, "true", 1, None])
ANY = st.sampled_from(SCALARS)


def _by_status(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.dictionaries(st.sampled_from(STATUSES), values, max_size=2) | ANY


def _patterns() -> st.SearchStrategy[Any]:
    pattern = st.dictionaries(st.sampled_from(["host", "check", "hots"]), ANY, max_size=2)
    return st.lists(pattern | ANY, max_size=2) | ANY


WANTED = FLAGS | _by_status(FLAGS) | st.lists(st.sampled_from(STATUSES), max_size=3)
URLS = ["https://h", "http://h:80/v2", "HTTP://h", "https://[::1]:1/a@b", "https://u@h", "ftp://h"]
MORE_URLS = [
    "https://h?x",
    "https://h#x",
    "https://h:0",
    "https://a b",
    "https://",
    "h",
    "https:/h",
]
MESSAGES = ["$status", "${host}!", "$$5", "$ 5", "$statusx", "$Status", "${host", "a\n$check", "$"]
MESSAGES += ["$history", "a ${perfdata}", "$histories"]
COLORS = ["yellow", "green", "red", "purple", "gray", "random", "grey", "Red"]
BY_KEY = {
    "type": st.sampled_from(["hipchat", 1, None]),
    "url": st.sampled_from(URLS) | ANY,
    "room": ANY,
    "token_file": st.sampled_from(["/t", "t", "~/t"]) | ANY,
    "token_env": st.sampled_from(["T", "_t1", "1T", "T-T"]) | ANY,
    "token": st.sampled_from(["made-up", "made up", "é"]) | ANY,
    "send": WANTED,
    "notify": WANTED,
    "match": _patterns(),
    "exclude": _patterns(),
    "color": _by_status(st.sampled_from([*COLORS, 1, None])),
    "format": st.sampled_from(["html", "text", "HTML", None, 1]),
    "message": st.sampled_from(MESSAGES) | ANY,
    "mention": _by_status(st.sampled_from(["@here", "", 5, None])),
    "from": ANY,
    "timezone": st.sampled_from(["UTC", "local", "Asia/Tokyo", "utc", "/etc/x", "a/../b"]) | ANY,
    "per_minute": ANY,
    "timeout": ANY,
    "verify": st.sampled_from(["/ca.pem", "ca.pem"]) | ANY,
    "proxy": st.sampled_from(URLS) | ANY,
    "notfy": ANY,
}
COMPLETE = {"url": "https://h", "room": 1, "token_env": "T", "format": "text"}
KEYS = st.sampled_from(sorted(BY_KEY)).flatmap(
    lambda key: BY_KEY[key].map(lambda value: {key: value})
)


class Plain(yaml.SafeDumper):
    """Writes a value out wherever it stands."""

    def ignore_aliases(self, _: object) -> bool:
        return True


@given(st.lists(KEYS, min_size=1, max_size=3), st.sampled_from([None, *COMPLETE]))
@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_schema_and_reader_agree_on_whatever_somebody_writes(
    tmp_path: Path, drawn: list[dict[str, Any]], left_out: str | None
) -> None:
    channel: dict[str, Any] = {key: COMPLETE[key] for key in COMPLETE if key != left_out}
    for key in drawn:
        channel |= key
    if {"token", "token_file"} & channel.keys():
        channel.pop("token_env", None)
    # `defaults`, so that nothing that is required can stand in those of another file
    content = {"defaults": {"format": "html"}, "channels": {"ops": channel}}
    (tmp_path / "ops.yaml").write_text(yaml.dump(content, Dumper=Plain), "utf-8")

    errors = config.load(str(tmp_path), TYPES).errors

    assert SCHEMA.is_valid(content) is (not errors), [*map(str, errors)]
