"""What flipbell has to say beside the agent's own stdout and stderr: syslog, identifier `flipbell`.

Python's logger `flipbell` carries it, so an agent that configures logging sees it as well.
`FLIPBELL_LOG=debug` prints it on stderr for people.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import logging


def escaped(text: str) -> str:
    """Return text without anything that could forge a line or turn it around."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def error(message: str) -> None:
    """Log what went wrong and needs a person."""
    _logger().error("%s", escaped(message))


def warning(message: str) -> None:
    """Log what flipbell copes with, but the operator may want to know."""
    _logger().warning("%s", escaped(message))


def _logger() -> logging.Logger:
    import logging
    import os

    logger = logging.getLogger("flipbell")
    if not logger.handlers:
        logger.setLevel(logging.INFO)
        logger.addHandler(_syslog())
        if os.environ.get("FLIPBELL_LOG") == "debug":
            logger.setLevel(logging.DEBUG)
            logger.addHandler(logging.StreamHandler())
    return logger


def _syslog() -> logging.Handler:
    import logging
    import logging.handlers
    import os

    class Quiet(logging.handlers.SysLogHandler):
        """A syslog that went away must not print on the agent's stderr, as logging would."""

        def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  logging's name
            """Drop the record: there is nowhere left to say it."""

    try:
        handler = Quiet("/dev/log", facility=Quiet.LOG_DAEMON)
    except OSError:  # no syslog here: `flipbell status` still tells
        return logging.NullHandler()
    handler.ident = f"flipbell[{os.getpid()}]: "
    return handler
