"""A document's blocks: commands with the output that they show, and files that they hold."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import subprocess
import termios
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_PROMPT = re.compile(r"^[$#] ", re.MULTILINE)
_MARK = b"\x01"
_NOTE = re.compile(r"^note: .*\n", re.MULTILINE)  # of the machine that the tests run on


def blocks(file: Path, section: str = "") -> list[tuple[str, str]]:
    """Return each block's language and content, of a whole document or of one section."""
    text = file.read_text(encoding="utf-8")
    if section:
        text = text.split(f"\n## {section}\n")[1].split("\n## ")[0]
    found = _BLOCK.findall(text)
    assert text.count("```") == 2 * len(found), f"a block of {file} has no language, or no end"
    return found


def commands(block: str) -> list[tuple[str, str]]:
    """Return each command of a console block with the output that it shows."""
    _, *parts = _PROMPT.split(block)
    return [(part.partition("\n")[0], part.partition("\n")[2]) for part in parts]


def is_for_root(block: str) -> bool:
    """Return whether a console block shows root's prompt."""
    return block.startswith("# ")


def assert_shown(shown: str, got: str) -> None:
    """See that the output is as shown, where `...` stands for anything."""
    pattern = re.escape(shown).replace(re.escape("..."), "(?:.|\n)*?")
    got = re.sub(" +$", "", _NOTE.sub("", got), flags=re.MULTILINE)
    assert re.fullmatch(pattern, got), f"shown:\n{shown}\ngot:\n{got}"


class Shell:
    """A shell with a terminal behind it, on which it answers what is asked."""

    def __init__(
        self,
        command: Sequence[str],
        directory: Path,
        environ: dict[str, str],
        replaced: dict[str, str],
        answer: str,
    ) -> None:
        self.directory = directory
        self._replaced = replaced
        self._answer = f"{answer}\n".encode()
        self._terminal, self._other_end = pty.openpty()
        self._process = subprocess.Popen(
            command,
            cwd=directory,
            env=environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=self._take_terminal,  # noqa: PLW1509  one call to the kernel
        )

    def close(self) -> None:
        """End the shell."""
        self._process.communicate(timeout=60)
        os.close(self._terminal)
        os.close(self._other_end)

    def _take_terminal(self) -> None:
        fcntl.ioctl(self._other_end, termios.TIOCSCTTY, 0)

    def run(self, command: str) -> str:
        """Return what a command prints, and what it asks on the terminal."""
        assert self._process.stdin is not None
        line = f"{command}\nlast=$?; printf '\\001'; (exit $last)\n"
        self._process.stdin.write(line.encode())
        self._process.stdin.flush()
        output = b""
        while not output.endswith(_MARK):
            output += self._read(command, output)
        return output[:-1].decode()

    def _read(self, command: str, before: bytes) -> bytes:
        assert self._process.stdout is not None
        sources = [self._terminal, self._process.stdout.fileno()]
        ready, _, _ = select.select(sources, [], [], 120)
        assert ready, f"{command!r} does not end: {before.decode()}"
        if self._terminal in ready:
            asked = os.read(self._terminal, 1000).replace(b"\r", b"")
            if asked.endswith(b": "):
                os.write(self._terminal, self._answer)
            return asked
        said = os.read(sources[1], 65536)
        assert said, f"the shell ended in {command!r}: {before.decode()}"
        return said

    def take(self, language: str, content: str) -> None:
        """Run a console block, or write a file that names itself in its first line."""
        for word, other in self._replaced.items():
            content = content.replace(word, other)
        if language == "console":
            for command, shown in commands(content):
                assert_shown(shown, self.run(command))
            return
        name = re.match(r"# (\S+)\n", content)
        assert name, f"a {language} block does not say which file it is"
        file = Path(self.run("pwd").strip()) / name[1]
        file.parent.mkdir(exist_ok=True)
        file.write_text(content, encoding="utf-8")
