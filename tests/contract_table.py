"""HipChat's v2 contract as a table: requests that are valid, and what others are answered."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hipchat_room import TOKEN

if TYPE_CHECKING:
    from collections.abc import Mapping

OTHER = "made-up-token-of-another-room"
NAMES = ("ops", "web team", "a/b", "c#", "1+1", "監視 🔔")


@dataclass(frozen=True)
class Asked:
    """A request; what a row does not name is right."""

    body: Any = field(default_factory=lambda: {"message": "made up"})
    path: str = "/v2/room/1/notification"
    method: str = "POST"
    headers: Mapping[str, str | None] = field(default_factory=dict)
    raw: bytes | None = None


def card(**fields: Any) -> Asked:
    """Return a request with a card, whose required fields are right unless they are given."""
    full = {"style": "application", "title": "Build", "id": "b1", **fields}
    given = {name: value for name, value in full.items() if value is not None}
    return Asked({"message": "made up", "card": given})


def body(**fields: Any) -> Asked:
    """Return a request with fields beside the message."""
    return Asked({"message": "made up", **fields})


def attribute(**value: Any) -> dict[str, Any]:
    """Return a card's attribute."""
    return {"label": "l", "value": {"label": "v", **value}}


VALID = {
    "the least": Asked(),
    "message 1": Asked({"message": "x"}),
    "message 10000": Asked({"message": "x" * 10_000}),
    "message 10000 emoji": Asked({"message": "🔔" * 10_000}),
    "message with NUL and half a character": Asked({"message": "a\0b\ud800"}),
    "from empty": body(**{"from": ""}),
    "from 64": body(**{"from": "監" * 64}),
    **{f"color {name}": body(color=name) for name in ("yellow", "green", "red", "purple", "gray")},
    "color random": body(color="random"),
    "notify true": body(notify=True),
    "notify false": body(notify=False),
    "format html": body(message_format="html"),
    "format text": body(message_format="text"),
    "attach_to empty": body(attach_to=""),
    "attach_to 36": body(attach_to="x" * 36),
    "card null": body(card=None),
    **{
        f"card {name}": card(style=name)
        for name in ("file", "image", "application", "link", "media")
    },
    "card title 500": card(title="x" * 500),
    "card description text": card(description="x" * 1000),
    "card description html": card(description={"value": "x" * 1000, "format": "html"}),
    "card format compact": card(format="compact"),
    "card format medium": card(format="medium"),
    "card url": card(url="https://example.com/"),
    "card thumbnail": card(thumbnail={"url": "x" * 250, "url@2x": "x" * 250, "width": 1.5}),
    "card activity": card(activity={"html": "<b>x</b>", "icon": "https://example.com/i.png"}),
    "card attributes": card(
        attributes=[attribute(style="lozenge-error"), {"value": {"label": "x"}}]
    ),
    "card icon text": card(icon="https://example.com/i.png"),
    "card icon object": card(icon={"url": "https://example.com/i.png", "url@2x": "x"}),
    "card date, as Grafana sent": card(date=1),
    "with a charset": Asked(headers={"Content-Type": "application/json; charset=utf-8"}),
    "token in the query": Asked(
        path=f"/v2/room/1/notification?auth_token={TOKEN}", headers={"Authorization": None}
    ),
    "token in the query behind a proxy's own header": Asked(
        path=f"/v2/room/1/notification?auth_token={TOKEN}",
        headers={"Authorization": "Basic bWFkZTp1cA=="},
    ),
    "bearer in small letters": Asked(headers={"Authorization": f"bearer {TOKEN}"}),
    "room by name": Asked(path="/v2/room/ops/notification"),
}
BAD_JSON = "The request body cannot be parsed as valid JSON: "
SCOPE = "This action requires one of the following scopes: [u'send_notification']"
METHOD = "<p>The method is not allowed for the requested URL.</p>"
CLOSED = (
    "Authenticated requests only. See https://www.hipchat.com/docs/apiv2/auth for more information."
)


def wrong(name: str, rule: str) -> dict[str, Any]:
    """Return what the 400 for a field says."""
    return {"code": 400, "type": "Bad Request", "field": name, "validation": rule}


INVALID: dict[str, tuple[Asked, dict[str, Any]]] = {
    "no message": (
        Asked({}),
        {**wrong("message", "required"), "message": "Required field 'message' is missing"},
    ),
    "message empty": (Asked({"message": ""}), wrong("message", "minLength")),
    "message 10001": (Asked({"message": "x" * 10_001}), wrong("message", "maxLength")),
    "message a number": (Asked({"message": 1}), wrong("message", "type")),
    "message null": (Asked({"message": None}), wrong("message", "type")),
    "from 65": (body(**{"from": "x" * 65}), wrong("from", "maxLength")),
    "from a number": (body(**{"from": 1}), wrong("from", "type")),
    "color grey": (body(color="grey"), wrong("color", "enum")),
    "color orange": (body(color="orange"), wrong("color", "enum")),
    "color null": (body(color=None), wrong("color", "type")),
    "notify text": (
        body(notify="true"),
        {
            **wrong("notify", "type"),
            "message": "Value u'true' for field 'notify' is not of type 'boolean'",
            "expected_type": "boolean",
            "value": "true",
        },
    ),
    "notify 1": (body(notify=1), wrong("notify", "type")),
    "format markdown": (body(message_format="markdown"), wrong("message_format", "enum")),
    "attach_to 37": (body(attach_to="x" * 37), wrong("attach_to", "maxLength")),
    "attach_to a number": (body(attach_to=1), wrong("attach_to", "type")),
    "card a text": (body(card="x"), wrong("card", "type")),
    "card without style": (card(style=None), wrong("card.style", "required")),
    "card without title": (card(title=None), wrong("card.title", "required")),
    "card without id": (card(id=None), wrong("card.id", "required")),
    "card style": (card(style="video"), wrong("card.style", "enum")),
    "card title empty": (card(title=""), wrong("card.title", "minLength")),
    "card title 501": (card(title="x" * 501), wrong("card.title", "maxLength")),
    "card id a number": (card(id=1), wrong("card.id", "type")),
    "card id empty": (card(id=""), wrong("card.id", "minLength")),
    "card description 1001": (
        card(description="x" * 1001),
        wrong("card.description", "maxLength"),
    ),
    "card description empty": (card(description=""), wrong("card.description", "minLength")),
    "card description a number": (card(description=1), wrong("card.description", "type")),
    "card description without format": (
        card(description={"value": "x"}),
        wrong("card.description.format", "required"),
    ),
    "card description format": (
        card(description={"value": "x", "format": "wiki"}),
        wrong("card.description.format", "enum"),
    ),
    "card format": (card(format="large"), wrong("card.format", "enum")),
    "card url empty": (card(url=""), wrong("card.url", "minLength")),
    "card thumbnail without url": (
        card(thumbnail={"width": 1}),
        wrong("card.thumbnail.url", "required"),
    ),
    "card thumbnail url 251": (
        card(thumbnail={"url": "x" * 251}),
        wrong("card.thumbnail.url", "maxLength"),
    ),
    "card thumbnail url@2x 251": (
        card(thumbnail={"url": "x", "url@2x": "x" * 251}),
        wrong("card.thumbnail.url@2x", "maxLength"),
    ),
    "card thumbnail width": (
        card(thumbnail={"url": "x", "width": "1"}),
        wrong("card.thumbnail.width", "type"),
    ),
    "card activity without html": (card(activity={}), wrong("card.activity.html", "required")),
    "card activity empty": (
        card(activity={"html": ""}),
        wrong("card.activity.html", "minLength"),
    ),
    "card activity with more": (
        card(activity={"html": "x", "date": 1}),
        wrong("card.activity", "additionalProperties"),
    ),
    "card attributes no list": (card(attributes={}), wrong("card.attributes", "type")),
    "card attribute without value": (
        card(attributes=[{"label": "x"}]),
        wrong("card.attributes.0.value", "required"),
    ),
    "card attribute label 51": (
        card(attributes=[{"label": "x" * 51, "value": {"label": "x"}}]),
        wrong("card.attributes.0.label", "maxLength"),
    ),
    "card attribute value without label": (
        card(attributes=[{"value": {}}]),
        wrong("card.attributes.0.value.label", "required"),
    ),
    "card attribute style": (
        card(attributes=[attribute(style="lozenge-wild")]),
        wrong("card.attributes.0.value.style", "enum"),
    ),
    "card icon empty": (card(icon=""), wrong("card.icon", "minLength")),
    "card icon without url": (card(icon={"url@2x": "x"}), wrong("card.icon.url", "required")),
    "a list": (Asked([1]), wrong("body", "type")),
    "no JSON": (Asked(raw=b"{"), {"code": 400, "message": BAD_JSON}),
    "a raw line break": (Asked(raw=b'{"message": "a\rb"}'), {"code": 400, "message": BAD_JSON}),
    "no number": (Asked(raw=b'{"message": NaN}'), {"code": 400, "message": BAD_JSON}),
    "no UTF-8": (Asked(raw=b'{"message": "\xff"}'), {"code": 400, "message": BAD_JSON}),
    "too deep": (
        Asked(raw=b'{"message": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
        {"code": 400, "message": BAD_JSON},
    ),
    "nothing": (Asked(raw=b""), {"code": 400, "message": BAD_JSON}),
    "a form": (
        Asked(headers={"Content-Type": "application/x-www-form-urlencoded"}),
        {"code": 400, "message": "Content-Type must be application/json, not u'application/x"},
    ),
    "no content type": (
        Asked(headers={"Content-Type": None}),
        {"code": 400, "message": "Content-Type must be application/json"},
    ),
    "more than a mebibyte": (Asked(raw=b" " * ((1 << 20) + 1)), {"code": 413}),
    "no token": (
        Asked(headers={"Authorization": None}),
        {"code": 401, "type": "Unauthorized", "message": CLOSED},
    ),
    "another scheme, as of a proxy": (
        Asked(headers={"Authorization": f"Basic {TOKEN}"}),
        {"code": 401, "message": CLOSED},
    ),
    "a token of API v1": (
        Asked(headers={"Authorization": "Bearer wrong"}),
        {"code": 401, "type": "Unauthorized", "message": "Invalid OAuth session"},
    ),
    "a wrong header beside the right query": (
        Asked(
            path=f"/v2/room/1/notification?auth_token={TOKEN}",
            headers={"Authorization": "Bearer wrong"},
        ),
        {"code": 401, "message": "Invalid OAuth session"},
    ),
    "GET": (Asked(method="GET"), {"code": 405, "type": "Method Not Allowed", "message": METHOD}),
    "PUT": (Asked(method="PUT"), {"code": 405, "message": METHOD}),
    "a path that a # cut off": (Asked(path="/v2/room/1"), {"code": 405, "message": METHOD}),
    "API v1": (Asked(path="/v1/rooms/message"), {"code": 404}),
    "another action": (Asked(path="/v2/room/1/topic"), {"code": 404, "type": "Not Found"}),
}
# The fixture has every room, and none that its token does not open.
OF_THE_ROOM_ONLY: dict[str, tuple[Asked, dict[str, Any]]] = {
    "another room's token": (
        Asked(headers={"Authorization": f"Bearer {OTHER}"}),
        {"code": 403, "type": "Forbidden", "message": SCOPE},
    ),
    "all rooms": (
        Asked(path="/v2/room", method="GET"),
        {"code": 403, "message": SCOPE.replace("send_notification", "view_group")},
    ),
    "no such room": (
        Asked(path="/v2/room/nowhere/notification"),
        {"code": 404, "type": "Not Found", "message": "Room not found"},
    ),
    "a space as +": (
        Asked(path="/v2/room/web+team/notification"),
        {"code": 404, "message": "Room not found"},
    ),
    "another id": (Asked(path="/v2/room/99/notification"), {"code": 404}),
}
