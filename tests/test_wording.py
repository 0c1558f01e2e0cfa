"""The words of an error about a file: who cannot read it, why, and what mends it."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from conftest import NOBODY
from flipbell.wording import not_permitted, user_name

if TYPE_CHECKING:
    from pathlib import Path


def test_a_file_that_is_gone_or_hidden_should_belong_to_the_agents_user(tmp_path: Path) -> None:
    message = not_permitted(f"{tmp_path}/none", 0o600)

    assert message == f"{user_name()} cannot read it; chown it to the agent's user"


def test_an_owner_is_told_which_permissions_a_file_needs(tmp_path: Path) -> None:
    (tmp_path / "token").touch()

    message = not_permitted(f"{tmp_path}/token", 0o600)

    assert message.endswith("cannot read it, although it is the owner; chmod 600 it")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
@pytest.mark.parametrize(
    ("mode", "remedy"),
    [
        (0o600, "chown it to the agent's user, and run this as that user"),
        (0o644, "chmod 644 it"),
    ],
)
def test_a_private_file_of_another_user_is_not_opened_to_all(
    tmp_path: Path, mode: int, remedy: str
) -> None:
    (tmp_path / "file").touch()
    shutil.chown(tmp_path / "file", NOBODY)

    message = not_permitted(f"{tmp_path}/file", mode)

    owner = user_name(NOBODY).removeprefix("user ")
    assert message == f"{user_name()} cannot read it; it is owned by {owner}; {remedy}"


def test_a_user_without_a_name_is_a_number() -> None:
    assert user_name(987_654) == "user 987654"
