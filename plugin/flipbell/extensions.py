"""Extensions: other packages' channel types, agent formats and vetoes, each kept from harm.

They live in a plugin manager of flipbell's own. pluggy stops a hook at the first implementation
that raises, accepts misspelt names, and lets a wrapper swallow what others return; one extension
would silence the others. So each implementation is guarded, and the rest is refused by name.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pluggy

from flipbell import log
from flipbell.hookspecs import PROJECT, ExtensionSpecs, hookimpl
from flipbell.wording import suggestion

if TYPE_CHECKING:
    from collections.abc import Callable

    from flipbell.agents import AgentFormat
    from flipbell.channels import ChannelType
    from flipbell.model import Transition

_HOOKS = tuple(name for name in vars(ExtensionSpecs) if name.startswith("flipbell_"))


class Extensions:
    """The registered extensions, with a typed method for each hook."""

    def __init__(self) -> None:
        self._manager = pluggy.PluginManager(PROJECT)
        self._manager.add_hookspecs(ExtensionSpecs)

    @classmethod
    def load(cls) -> Extensions:
        """Register every installed extension that FLIPBELL_DISABLED_PLUGINS does not name."""
        from importlib.metadata import entry_points

        extensions = cls()
        disabled = os.environ.get("FLIPBELL_DISABLED_PLUGINS", "").replace(",", " ").split()
        for entry in entry_points(group=PROJECT):
            if entry.name in disabled:
                continue
            try:
                extensions.register(entry.load(), entry.name)
            except Exception as error:  # noqa: BLE001  one extension must not silence the others
                log.error(f"extension {entry.name}: cannot be loaded: {_cause(error)}")
        return extensions

    def register(self, extension: object, name: str) -> bool:
        """Register an extension, guarded; return False, and log why, where it is refused."""
        try:
            self._manager.register(self._guarded(extension, name), name)
        except (pluggy.PluginValidationError, ValueError) as error:
            log.error(f"extension {name}: refused: {error}")
            return False
        return True

    def _guarded(self, extension: object, name: str) -> SimpleNamespace:
        """Return the extension's implementations, each guarded. Raises ValueError."""
        found: dict[str, Callable[..., Any]] = {}
        for attribute in dir(extension):
            options = self._manager.parse_hookimpl_opts(extension, attribute)
            if options is None:
                continue
            hook = options.get("specname") or attribute
            if hook not in _HOOKS:
                hint = suggestion(hook, _HOOKS) or f", expected one of {', '.join(_HOOKS)}"
                raise ValueError(f"no hook is called {hook}{hint}")
            if options.get("wrapper") or options.get("hookwrapper"):
                raise ValueError(f"{hook}: wrappers could silence other extensions")
            first, last = options.get("tryfirst", False), options.get("trylast", False)
            guard = _guard(getattr(extension, attribute), name)
            found[hook] = hookimpl(guard, tryfirst=first, trylast=last)
        return SimpleNamespace(**found)

    def channel_types(self) -> dict[str, ChannelType]:
        """Return every channel type, flipbell's own among them."""
        from flipbell.channels.hipchat import HipChat

        found: dict[str, ChannelType] = {"hipchat": HipChat()}
        for types in self._manager.hook.flipbell_channel_types():
            found.update(_mapping(types))
        return found

    def agent_formats(self) -> dict[str, AgentFormat]:
        """Return the agent formats that extensions bring."""
        found: dict[str, AgentFormat] = {}
        for formats in self._manager.hook.flipbell_agent_formats():
            found.update(_mapping(formats))
        return found

    def veto(self, transition: Transition, channel: str) -> str | None:
        """Return the first reason why a room shall not hear of a transition."""
        reason = self._manager.hook.flipbell_veto(transition=transition, channel=channel)
        return None if reason is None else str(reason)

    def delivered(self, transition: Transition, channel: str, outcome: str) -> None:
        """Tell every extension what became of a message."""
        self._manager.hook.flipbell_delivered(
            transition=transition, channel=channel, outcome=outcome
        )


def _mapping(value: object) -> dict[str, Any]:
    if isinstance(value, Mapping):
        return {str(name): item for name, item in value.items()}
    log.error(f"an extension gave {type(value).__name__} in the place of a mapping")
    return {}


def _guard(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    @functools.wraps(function)  # pluggy reads the names of the arguments
    def guard(*arguments: Any) -> Any:  # noqa: ANN401  whatever the hook takes and gives
        try:
            return function(*arguments)
        except Exception as error:  # noqa: BLE001  an extension's mistake stays its own
            log.error(f"extension {name}: {function.__name__} failed: {_cause(error)}")
            return None

    return guard


def _cause(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
