"""Agent formats: one module for each agent, which alone knows how that agent tells a result.

`Given` and `AgentFormat` are loaded when first asked for, because the short cut of `report` needs
neither of them.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from flipbell.agents.given import AgentFormat, Given

__all__ = ["BUILT_IN", "AgentFormat", "FormatError", "Given", "built_in", "required"]

# By the name that `report --from` gives them. A notifier is called for every result, so only the
# module that is asked for is loaded.
_MODULES = {
    "alertmanager": "alertmanager",
    "checkmk": "checkmk",
    "collectd": "collectd",
    "consul": "consul",
    "icinga2": "icinga2",
    "json": "json_result",
    "mackerel-agent": "mackerel_agent",
    "mackerel-webhook": "mackerel_webhook",
    "mon": "mon",
    "monit": "monit",
    "nagios": "nagios",
    "netdata": "netdata",
    "plain": "plain",
    "sensu": "sensu",
    "zabbix": "zabbix",
}
BUILT_IN = tuple(_MODULES)
NO_LONGER_CHECKED = "no longer checked"
"""The output of the OK that ends the incident of a check that its agent has stopped checking."""


class FormatError(ValueError):
    """The agent's call does not say what it should; the message names what is missing."""


def __getattr__(name: str) -> object:
    if name not in ("AgentFormat", "Given"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from flipbell.agents import given

    return getattr(given, name)


def built_in(name: str) -> "AgentFormat | None":
    """Return the format of that name that comes with flipbell, or None."""
    if name not in _MODULES:
        return None
    import importlib

    module = importlib.import_module(f"{__name__}.{_MODULES[name]}")
    read: AgentFormat = module.read
    return read


def required(value: "str | None", option: str) -> str:
    """Return what must be given. Raises FormatError."""
    if not value:
        raise FormatError(f"expected {option}")
    return value
