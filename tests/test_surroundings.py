"""What `status` says of the host: file systems that forget, and bytecode that is not there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

import flipbell
from conftest import unmeasured
from flipbell import surroundings

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Site

MOUNTS = """\
22 1 0:20 / / rw,relatime shared:1 - overlay overlay rw,lowerdir=/l
23 22 0:21 / /var rw - ext4 /dev/sda1 rw
24 23 0:22 / /var/lib/flip\\040bell rw - nfs4 server:/x rw
25 22 0:23 / /run rw - tmpfs tmpfs rw
26 22 0:24 / /run rw - ext4 /dev/sdb1 rw
27 22 0:25 / /tmp rw - tmpfs tmpfs rw
"""


@pytest.mark.parametrize(
    ("directory", "kind"),
    [
        ("/srv", "overlay"),
        ("/var", "ext4"),
        ("/variable", "overlay"),
        ("/var/lib/flip bell/state", "nfs4"),
        ("/run/flipbell", "ext4"),  # the later mount hides the earlier
        ("/tmp", "tmpfs"),
    ],
)
def test_finds_the_file_system(directory: str, kind: str) -> None:
    assert surroundings.file_system(directory, MOUNTS) == kind


def test_says_nothing_where_mounts_are_not_known() -> None:
    assert surroundings.file_system("/var", "") == ""


@pytest.mark.skipif(not os.access("/dev/shm", os.W_OK), reason="there is no /dev/shm")
def test_status_warns_of_a_state_that_a_restart_forgets(site: Site) -> None:
    site.environ["FLIPBELL_STATE"] = "/dev/shm/flipbell-that-is-never-made"

    said = site.flipbell("status").stdout.decode()

    assert "never-made is in memory (tmpfs): a restart forgets all; use a disk\n" in said


def test_status_tells_of_missing_bytecode(tmp_path: Path, site: Site) -> None:
    copy = tmp_path / "copy"
    source = os.path.dirname(flipbell.__file__)
    shutil.copytree(source, copy / "flipbell", ignore=shutil.ignore_patterns("__pycache__"))
    environ = unmeasured(site.environ)
    environ.update(PYTHONPATH=str(copy), PYTHONDONTWRITEBYTECODE="1")

    def status() -> str:
        command = [sys.executable, "-m", "flipbell", "status"]
        return subprocess.run(
            command, env=environ, check=False, capture_output=True, encoding="utf-8"
        ).stdout

    before = status()
    note = next(line for line in before.splitlines() if "no bytecode" in line)
    subprocess.run(note.partition("do: ")[2].split(), check=True)  # as it advises

    assert note.startswith(f"note: {copy}/flipbell has no bytecode")
    assert "no bytecode" not in status()
