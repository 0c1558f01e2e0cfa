"""The wheel and the source distribution: complete, clean, and working without the checkout."""

from __future__ import annotations

import tarfile
import zipfile
from typing import TYPE_CHECKING

import pytest

from conftest import ROOT, shipped

if TYPE_CHECKING:
    from pathlib import Path

tomllib = pytest.importorskip("tomllib", reason="Python 3.10 reads no TOML")

SHARED = [
    *("hooks/README.md", "hooks/pluggy/flipbell_hook.py", "hooks/mackerel-agent/flipbell.conf"),
    *("hooks/mackerel-agent/README.md", "hooks/systemd/flipbell.service", "conf.d/example.yaml"),
    "conf.d/schema.json",
    *sorted(str(file.relative_to(ROOT)) for file in ROOT.glob("hooks/*/*") if file.is_file()),
]


def test_the_wheel_has_package_hooks_and_configuration(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()

    tops = {name.split("/")[0].split("-")[0] for name in names}
    assert tops == {"flipbell"}
    assert {"flipbell/py.typed", "flipbell/run.py", "flipbell/cli/status.py"} <= set(names)
    page = {"index.html", "room.css", "room.js", "message.js", "feed.js", "ring.js", "icon.svg"}
    assert {f"flipbell/room/page/{name}" for name in page} <= set(names)
    assert "flipbell/room/notification.json" in names
    for file in SHARED:
        assert any(name.endswith(f".data/data/share/flipbell/{file}") for name in names), file
    assert not [name for name in names if "test" in name or name.endswith(".pyc")]


def test_the_sdist_has_everything_to_build_and_test(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}

    assert {
        *SHARED,
        "LICENSE",
        "README.md",
        "README.ja.md",
        "CHANGELOG.md",
        "tests/conftest.py",
        "docs/room-light.png",
    } <= names
    assert {"pyproject.toml", "plugin/flipbell/model.py"} <= names


def test_what_is_shipped_is_found(tmp_path: Path) -> None:
    del tmp_path
    for file in SHARED:
        assert shipped(file).is_file()


def test_three_dependencies_and_no_more() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)["project"]

    names = [dependency.split(">")[0] for dependency in project["dependencies"]]
    assert names == ["requests", "pyyaml", "pluggy"]


def test_the_mackerel_drop_in_is_toml_with_both_ways() -> None:
    with shipped("hooks/mackerel-agent/flipbell.conf").open("rb") as file:
        checks = tomllib.load(file)["plugin"]["checks"]

    assert checks["disk"]["command"][:2] == ["/usr/local/bin/flipbell", "run"]
    assert checks["load"]["action"]["command"][1:3] == ["report", "--from"]
