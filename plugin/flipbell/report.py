"""The short cut of `flipbell report`: a result that changes nothing ends it after two looks.

Agents call `report` for every result, and the whole command line costs more than ten times what
an unchanged result needs. A call that is wrong or not plain, and a result that has to be recorded
are left to the whole command line, which starts from the beginning.
"""

import posix
import sys

from flipbell import places

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_OPTIONS = frozenset(
    ("from", "host", "check", "status", "output", "type", "state-type", "time", "state", "config")
)


def main(arguments: list[str]) -> None:
    """Exit if a call is about a result that changes nothing; return if more has to be done."""
    if is_unchanged(arguments):
        posix._exit(0)


def is_unchanged(arguments: list[str]) -> bool:
    """Return whether a call is plainly about a result that changes nothing."""
    options = parse(arguments)
    # In another encoding the names would not be those that the ledger has.
    return options is not None and sys.getfilesystemencoding() == "utf-8" and _is_known(options)


def parse(arguments: list[str]) -> "dict[str, str] | None":
    """Return a call's options, or None if the whole command line has to read it.

    Read here is only what argparse would read in the same way.
    """
    options: dict[str, str] = {}
    words = iter(arguments)
    for word in words:
        name, equals, value = word[2:].partition("=")
        if not word.startswith("--") or name not in _OPTIONS:
            return None
        if not equals:
            value = next(words, "-")
            if value.startswith("-"):
                return None
        if name == "time" and not _is_number(value):
            return None
        options[name] = value
    return options


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _is_known(options: "Mapping[str, str]") -> bool:
    from flipbell.agents import glance

    environ = {_text(name): _text(value) for name, value in posix.environ.items()}
    name = options.get("from") or ("plain" if options.get("status") else "json")
    result = glance.glance(name, options, environ)
    if result is None:
        return False
    host, check, status = result
    if max(len(host), len(check)) * 4 > places.NAME_LIMIT:
        return False
    from flipbell import quiet

    where = {"host": host, "check": check, "state": options.get("state", "")}
    return quiet.Check(where, environ).has(status)


def _text(value: bytes) -> str:
    return value.decode(sys.getfilesystemencoding(), sys.getfilesystemencodeerrors())


def find_packages(home: str) -> None:
    """Have packages found as `python -I` finds them, and those of *home*, where flipbell is.

    The launcher has left `site` out for the short cut.
    """
    import os
    import site

    site.main()
    if not any(os.path.isdir(path) and os.path.samefile(path, home) for path in sys.path):
        sys.path.append(home)
