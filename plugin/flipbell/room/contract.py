"""The contract of HipChat's v2 room API: the one place that judges a request.

The room and the tests' `hipchat_room` both ask it. Fields and limits are those of the JSON Schema
of Jenkins' HipChat plugin and of developer.atlassian.com/server/hipchat; the error bodies are
those that users of HipChat have quoted. HipChat judged in this order: the path, the token, the
room, the token's right, the rate (which the room adds), then the body.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from importlib import resources
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, cast
from urllib.parse import parse_qsl, unquote

from flipbell.room.refusal import RefusalError, quoted, wrong_field

if TYPE_CHECKING:
    from collections.abc import Mapping

    import jsonschema

DEFAULTS = {"color": "yellow", "notify": False, "message_format": "html", "from": ""}
COLORS = ("yellow", "green", "red", "purple", "gray", "random")
BODY_LIMIT = 1 << 20  # bytes; the longest valid notification is far below
_DEEPEST = 50  # levels of arrays and objects in a body
_METHODS = {
    "": ("GET",),
    "notification": ("POST",),
    "history": ("GET",),
    "history/latest": ("GET",),
}
_SCOPES = {"notification": "send_notification"}
_READING = "view_messages"
_AUTHENTICATE = (
    "Authenticated requests only. See https://www.hipchat.com/docs/apiv2/auth for more information."
)
ACCEPTED = {
    "success": {
        "code": 202,
        "message": "This auth_token has access to use this method.",
        "type": "Accepted",
    }
}
RoomKind = TypeVar("RoomKind")
RoomFound_co = TypeVar("RoomFound_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Call:
    """A request as it came; *target* is path and query, percent-encoded."""

    method: str
    target: str
    authorization: str | None = field(default=None, repr=False)
    content_type: str | None = None
    body: bytes = b""


class Doors(Protocol[RoomFound_co]):
    """What the contract asks of whoever has rooms and tokens."""

    def knows(self, token: str) -> bool:
        """Return whether a token is that of any room."""

    def find(self, id_or_name: str) -> RoomFound_co | None:
        """Return a room, by its id or its name."""

    def opens(self, token: str, id_or_name: str) -> bool:
        """Return whether a token is this room's."""


@dataclass(frozen=True, slots=True)
class Order(Generic[RoomKind]):
    """What a request with the right token asks for: *action* is what stands after the room."""

    room: RoomKind
    action: str
    query: Mapping[str, str]
    token: str = field(repr=False)

    @property
    def is_trial(self) -> bool:
        """Whether it only asks if it would be allowed, with `auth_test=true`."""
        return self.query.get("auth_test", "").lower() == "true"


def admit(call: Call, doors: Doors[RoomKind]) -> Order[RoomKind]:
    """Return what a request asks for. Raises RefusalError: 401, 403, 404 or 405."""
    path, _, query_string = call.target.partition("?")
    query = dict(parse_qsl(query_string, keep_blank_values=True))
    name, action = _address(call.method, path)
    token = _token(call.authorization, query)
    if not doors.knows(token):
        raise RefusalError(401, "Invalid OAuth session")
    if name is None:
        raise _forbidden("view_group")
    room = doors.find(name)
    if room is None:
        raise RefusalError(404, "Room not found")
    if not doors.opens(token, name):
        raise _forbidden(_SCOPES.get(action, _READING))
    return Order(room, action, query, token)


def _forbidden(scope: str) -> RefusalError:
    return RefusalError(403, f"This action requires one of the following scopes: [u'{scope}']")


def _address(method: str, path: str) -> tuple[str | None, str]:
    """Return the room's id or name, if there is one, and what is asked of it.

    The path is judged as it was sent: a name may hold a percent-encoded slash, and a `#` that was
    not encoded has cut the path off, which HipChat answered with 405.
    """
    found = re.fullmatch(r"/v2/room(?:/([^/]+)(?:/(notification|history(?:/latest)?))?)?/?", path)
    if found is None:
        raise RefusalError(404, "Not Found")
    name, action = found[1], found[2] or ""
    allowed = _METHODS[action]
    if method not in allowed:
        message = "<p>The method is not allowed for the requested URL.</p>"
        raise RefusalError(405, message, headers={"Allow": ", ".join(allowed)})
    return None if name is None else unquote(name), action


def _token(authorization: str | None, query: Mapping[str, str]) -> str:
    """Return the token of the header, which is preferred, or of the query."""
    scheme, _, token = (authorization or "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    if query.get("auth_token"):
        return query["auth_token"]
    raise RefusalError(401, _AUTHENTICATE)


def notification(call: Call) -> dict[str, Any]:
    """Return the body of a notification, with HipChat's defaults. Raises RefusalError."""
    if len(call.body) > BODY_LIMIT:
        raise RefusalError(413, f"The request body is longer than {BODY_LIMIT} bytes")
    kind = (call.content_type or "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise RefusalError(400, f"Content-Type must be application/json, not {quoted(kind)}")
    body = _parsed(call.body)
    _validate(body)
    whole: dict[str, Any] = _whole(body)
    return {**DEFAULTS, **whole}


def unknown_fields(body: Mapping[str, Any]) -> list[str]:
    """Return fields that HipChat took without a word, and did nothing with: perhaps misspelt."""
    return sorted(body.keys() - schema()["properties"].keys())


def _parsed(body: bytes) -> Any:  # noqa: ANN401  any JSON
    try:
        return json.loads(body, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:  # ValueError: of JSON, or of its encoding
        said = str(error) if isinstance(error, json.JSONDecodeError) else type(error).__name__
        raise RefusalError(
            400, f"The request body cannot be parsed as valid JSON: {said}"
        ) from None


def _no_number(word: str) -> float:
    raise json.JSONDecodeError(f"{word} is no JSON", word, 0)


def _whole(value: Any, depth: int = 0) -> Any:  # noqa: ANN401  any JSON
    """Return a value without half characters, which JSON can hold and no file can.

    Raises RefusalError if it is nested so deeply that it could be kept but not be read again.
    """
    if depth > _DEEPEST:
        raise RefusalError(400, f"The request body is nested more than {_DEEPEST} levels deep")
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_whole(inner, depth + 1) for inner in value]
    if isinstance(value, dict):
        return {_whole(name): _whole(inner, depth + 1) for name, inner in value.items()}
    return value


_LOADED: list[jsonschema.Draft7Validator] = []


def _validator() -> jsonschema.Draft7Validator:
    if not _LOADED:
        import jsonschema

        text = resources.files(__package__ or "").joinpath("notification.json").read_text("utf-8")
        _LOADED.append(jsonschema.Draft7Validator(json.loads(text)))
    return _LOADED[0]


def schema() -> dict[str, Any]:
    """Return the JSON Schema of a notification's body."""
    found: Any = _validator().schema
    return dict(found)


def _validate(body: object) -> None:
    """Raise the RefusalError for the first rule that a body breaks, in the order of its fields."""
    errors = sorted(_validator().iter_errors(body), key=lambda error: list(map(str, error.path)))
    if errors:
        raise _refusal(errors[0])


def _refusal(error: jsonschema.ValidationError) -> RefusalError:
    """Say what a schema's error means in HipChat's words."""
    rule, value = str(error.validator), cast("Any", error.instance)
    while rule == "anyOf":  # of a card and null, of a text and an object: what was meant
        branches = [inner for inner in error.context or () if inner.validator != "type"]
        error = (branches or list(error.context or ()))[-1]
        rule, value = str(error.validator), cast("Any", error.instance)
    name = ".".join(map(str, error.absolute_path)) or "body"
    limit: Any = error.validator_value
    if rule == "required":
        missing = next(key for key in limit if key not in value)
        inner = f"{name}.{missing}" if error.absolute_path else missing
        return wrong_field(inner, rule, f"Required field '{missing}' is missing", None)
    if rule == "additionalProperties":
        return wrong_field(name, rule, f"Field '{name}' has fields that it must not have", value)
    if rule == "enum":
        choices = ", ".join(map(quoted, limit))
        message = f"Value {quoted(value)} for field '{name}' is not in the enumeration: [{choices}]"
        return wrong_field(name, rule, message, value, limit)
    if rule in ("minLength", "maxLength"):
        than = "greater" if rule == "minLength" else "less"
        message = (
            f"Length of value {quoted(value)} for field '{name}' must be {than} than "
            f"or equal to {limit}"
        )
        return wrong_field(name, rule, message, value, limit)
    message = f"Value {quoted(value)} for field '{name}' is not of type '{limit}'"
    return wrong_field(name, rule, message, value, limit)
