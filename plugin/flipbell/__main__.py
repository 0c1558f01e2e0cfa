"""Start flipbell: `run`, which is started for every check, does not pay for the other commands."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

if not __package__:  # started by its path, as a courier is, so that `ps` shows what it is
    sys.path.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def main(before: str = "") -> NoReturn:
    """Run the command line and exit with its status; *before* is as `run.main` takes it."""
    arguments = sys.argv[1:]
    if arguments[:1] == ["run"]:
        from flipbell import run

        run.main(arguments[1:], before)
    if arguments[:1] == ["report"]:
        from flipbell import report

        report.main(arguments[1:])
    if arguments[:2] == ["courier", "--handed-over"]:
        from flipbell import detach

        if not detach.is_fit(arguments[arguments.index("--state") + 1]):
            sys.exit(1)
    from flipbell.cli import main as command_line

    sys.exit(command_line(arguments))


if __name__ == "__main__":
    main()
