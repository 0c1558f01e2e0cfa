"""flipbell tells a HipChat room when a monitoring check's status changes, and only then.

An agent written in Python needs four names: `attach` where it has a pluggy host, `start` where
it has none, `CheckResult` and `Status` to say what a check said. `hookimpl` marks the hooks of
an extension. They are loaded when first asked for, because `flipbell run` is started hundreds of
times a minute and needs none of them.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from flipbell.hookspecs import hookimpl
    from flipbell.model import CheckResult, Status, Transition
    from flipbell.plugin import AttachError, Flipbell, attach, start

__version__ = "0.1.0"

__all__ = [
    "AttachError",
    "CheckResult",
    "Flipbell",
    "Status",
    "Transition",
    "attach",
    "hookimpl",
    "start",
]

_HOMES = {
    "AttachError": "plugin",
    "CheckResult": "model",
    "Flipbell": "plugin",
    "Status": "model",
    "Transition": "model",
    "attach": "plugin",
    "hookimpl": "hookspecs",
    "start": "plugin",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'flipbell' has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(f"flipbell.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
