"""HipChat: the v2 room notification, `POST /v2/room/{id or name}/notification`.

What the API expects is in the specification that Atlassian published for HipChat Server
(developer.atlassian.com/server/hipchat) and in the JSON Schema of Jenkins' HipChat plugin.
"""

from __future__ import annotations

import io
import json
import os
import re
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, quote, urlsplit

from flipbell.channels import not_begun
from flipbell.channels.token import Token, TokenError, token_of
from flipbell.model import Outcome, Verdict
from flipbell.wording import is_token_like, shown

if TYPE_CHECKING:
    from collections.abc import Mapping

    import requests

    from flipbell._yaml import Section
    from flipbell.model import Channel, Notification

SENDER_LIMIT = 64
COLORS = ("yellow", "green", "red", "purple", "gray", "random")
_ROOM_LIMIT = 100
_ERROR_LIMIT = 65536  # bytes read of an answer
_IDLE_LIMIT = 4.0  # seconds; an older connection may have been closed just as a request starts

_DELIVERED = (204,)
# To a request that is only a trial; a server that knows no trials carries it out.
_ASKED = (202, 204)
_TOO_MANY = 429
_BUSY = (_TOO_MANY, 503)
_UNKNOWN = (500, 502, 504)
_REFUSED = (400, 413, 422)
_ADVICE = {
    401: "the token is not accepted; use a Room Notification Token of this room (not of API v1)",
    403: "the token may not send here; it needs the scope send_notification for this room",
    404: "no such room; check `room` (Room API ID, or the exact name) and `url`",
    405: "not a HipChat v2 API, or one that was shut down; check `url`",
}


@dataclass(frozen=True, slots=True)
class HipChatSettings:
    """How a HipChat room is reached; *timeout* in seconds, for connecting and for each answer."""

    url: str
    room: str
    token: Token
    timeout: float = 10.0
    verify: bool | str = True
    proxy: str | None = None

    @property
    def endpoint(self) -> str:
        """The URL of the room's notifications; it holds no token."""
        return f"{self.url}/v2/room/{quote(self.room, safe='')}/notification"


class HipChat:
    """The channel type `hipchat`."""

    def read(self, section: Section) -> HipChatSettings | None:
        """Read url, room, token, timeout, verify and proxy."""
        url, room, token = _url(section), _room(section), token_of(section)
        timeout = section.number("timeout", least=0.1, most=120)
        verify = _verify(section)
        proxy = _proxy(section)
        if url is None or room is None or token is None:
            return None
        return HipChatSettings(url, room, token, timeout or 10.0, verify, proxy)

    def room(self, channel: Channel) -> str:
        """Return the room's URL."""
        return _settings(channel).endpoint

    def open(self, channel: Channel) -> HipChatSender:
        """Return a sender with a connection of its own."""
        return HipChatSender(_settings(channel))


def _settings(channel: Channel) -> HipChatSettings:
    assert isinstance(channel.settings, HipChatSettings)
    return channel.settings


def _url(section: Section) -> str | None:
    value = section.text("url", "your HipChat server, as in https://hipchat.example.com")
    if value is None:
        if section.given("url") is None:
            section.problem("url", "required: your HipChat server, as https://hipchat.example.com")
        return None
    parts = _host_of(value)
    if parts is None:
        section.problem("url", _no_url(value))
        return None
    if parts.username or parts.password or parts.query or parts.fragment:
        section.problem("url", "expected no user, password, ? or # in it")
        return None
    return value.rstrip("/").removesuffix("/v2").rstrip("/")


def _host_of(value: str) -> SplitResult | None:
    """Return the parts of a URL that names a host, or None."""
    try:
        parts = urlsplit(value)
        is_url = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return None
    return parts if is_url and value.isprintable() and " " not in value else None


def _no_url(value: str) -> str:
    # Before an @ may stand a password, and behind a question mark a token.
    got = "" if "@" in value or "?" in value else f", got {shown(value)}"
    return f"expected http:// or https:// and a host{got}"


def _room(section: Section) -> str | None:
    value = section.text("room", "a Room API ID or a room's name")
    if value is None:
        if section.given("room") is None:
            section.problem("room", "required: the Room API ID, or the room's name")
        return None
    if value in (".", "..") or len(value) > _ROOM_LIMIT or not value.isprintable():
        section.problem("room", f"expected a Room API ID or a room's name, got {shown(value[:40])}")
        return None
    if is_token_like(value):
        section.problem(
            "room", "this looks like a token; put it in a token_file, and the room here"
        )
        return None
    return value


def _verify(section: Section) -> bool | str:
    from flipbell._yaml import flag

    node = section.given("verify")
    if node is None or flag(node) is True:
        return True
    if flag(node) is False:
        section.warn(
            "verify",
            "certificates are not checked, so that anybody in between can read the token; "
            "use a CA file",
        )
        return False
    value = section.text("verify", "true, false or a CA file")
    if value is not None and not os.path.isabs(value):
        section.problem(
            "verify", f"expected true, false or the absolute path of a CA file, got {shown(value)}"
        )
    elif value is not None and not os.path.exists(value):
        section.warn("verify", f"{value}: no such file; expected a CA file", blocks=True)
    return value or True


def _proxy(section: Section) -> str | None:
    value = section.text("proxy", "a proxy, as in http://proxy.example.com:3128")
    if value is not None and _host_of(value) is None:
        section.problem("proxy", _no_url(value))
    return value


class _Body(io.BytesIO):
    """A request's body. It is read after the headers are sent, so not before the room has any."""

    is_begun = False

    def read(self, size: int | None = -1) -> bytes:
        """Return the next bytes, which are sent now."""
        self.is_begun = True
        return super().read(size)


class HipChatSender:
    """Posts to one room, one request at a time."""

    def __init__(self, settings: HipChatSettings) -> None:
        self._settings = settings
        self._session: requests.Session | None = None
        self._used = 0.0

    def send(self, notification: Notification) -> Outcome:
        """Post a notification; 204 is the only success."""
        body = {
            "message": notification.message,
            "message_format": notification.format,
            "color": notification.color,
            "notify": notification.notify,
            "from": notification.sender[:SENDER_LIMIT],
        }
        return self._post(body, {}, _DELIVERED)

    def ask(self) -> Outcome:
        """Post with `auth_test=true`, which the server checks and does not carry out."""
        return self._post({"message": "auth test"}, {"auth_test": "true"}, _ASKED)

    def _post(
        self, body: Mapping[str, Any], query: dict[str, str], success: tuple[int, ...]
    ) -> Outcome:
        content = _Body(json.dumps(body).encode())
        outcome = self._request(content, query, success)
        if outcome.verdict is Verdict.UNKNOWN and not content.is_begun:
            return replace(outcome, verdict=Verdict.RETRY)
        return outcome

    def _request(self, body: _Body, query: dict[str, str], success: tuple[int, ...]) -> Outcome:
        import requests

        from flipbell.channels import failure

        settings = self._settings
        route = failure.Route.to(settings.url, settings.proxy, settings.timeout)
        try:
            token = settings.token.read(os.environ)
            with self._open().post(
                settings.endpoint,
                params=query,
                data=body,
                headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
                timeout=settings.timeout,
                allow_redirects=False,
                stream=True,  # an answer without end is read no further than we look
            ) as answer:
                content = b""
                if answer.status_code not in success:
                    content = answer.raw.read(_ERROR_LIMIT, decode_content=True) or b""
        except TokenError as error:
            return Outcome(Verdict.PAUSE, str(error))
        except (requests.RequestException, OSError, ValueError) as error:
            self._close()
            return failure.judge(error, route)
        except Exception as error:  # noqa: BLE001  urllib3's own, and want of memory
            self._close()
            if not body.is_begun:
                return not_begun(error)
            return failure.judge_reading(error, route)
        self._used = time.monotonic()
        return judge(answer.status_code, answer.headers, content, time.time(), success)

    def _open(self) -> requests.Session:
        import requests

        if time.monotonic() - self._used > _IDLE_LIMIT:
            self._close()
        if self._session is None:
            self._session = requests.Session()
            self._session.trust_env = False  # neither netrc nor proxies from elsewhere
            self._session.verify = self._settings.verify
            if self._settings.proxy is not None:
                proxy = self._settings.proxy
                self._session.proxies = {"http": proxy, "https": proxy}
        return self._session

    def _close(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None


def judge(
    status: int,
    headers: Mapping[str, str],
    content: bytes,
    now: float,
    success: tuple[int, ...] = _DELIVERED,
) -> Outcome:
    """Return what an answer means; *success* are the statuses of the one that is hoped for."""
    if status in success:
        return Outcome(Verdict.DELIVERED, retry_after=retry_after(headers, now))
    reason = f"HTTP {status}{_said(content)}"
    if status in _BUSY:
        wait = retry_after(headers, now, is_refused=status == _TOO_MANY)
        return Outcome(Verdict.RETRY, reason, wait)
    if status in _UNKNOWN:
        return Outcome(Verdict.UNKNOWN, reason, retry_after(headers, now))
    if status in _REFUSED:
        return Outcome(Verdict.REFUSED, reason)
    if status in _ADVICE:
        reason = f"{reason}: {_ADVICE[status]}"
    elif 300 <= status < 400:  # noqa: PLR2004  the redirects
        reason = f"{reason}: redirects are not followed; check `url`"
    elif status < 300:  # noqa: PLR2004  looks like success, but HipChat answers 204
        reason = f"{reason}: not HipChat's answer ({success[0]}); check `url`"
    return Outcome(Verdict.PAUSE, reason)


def _said(content: bytes) -> str:
    """Return what the server's error body says, in short."""
    try:
        error = json.loads(content)["error"]
        said = " ".join(str(error[name]) for name in ("message", "field") if error.get(name))
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return ""
    return f" ({said[:200]})" if said else ""


def retry_after(headers: Mapping[str, str], now: float, *, is_refused: bool = False) -> float:
    """Return how many seconds the server wants to be left alone: Retry-After, or a used-up limit.

    HipChat's own limits are in X-FloodControl-* (30 a minute and room) and X-Ratelimit-* (500 in
    five minutes); their Reset is a time in seconds since the epoch. A request that *is refused*
    for a limit has used it up, whether the answer says so or not.
    """
    resets = [
        (headers.get(f"{family}-Remaining", "").strip(), headers.get(f"{family}-Reset", ""))
        for family in ("X-FloodControl", "X-Ratelimit")
    ]
    used_up = [reset for remaining, reset in resets if remaining == "0"]
    if is_refused and not used_up:
        used_up = [reset for _, reset in resets]
    waits = [
        _delay(headers.get("Retry-After", ""), now),
        *(_number(reset) - now for reset in used_up),
    ]
    return max(0.0, *waits)


def _delay(text: str, now: float) -> float:
    """Read Retry-After: seconds, or the date until which to wait (RFC 9110, 10.2.3)."""
    if _number(text):
        return _number(text)
    from email.utils import parsedate_to_datetime

    try:
        return parsedate_to_datetime(text).timestamp() - now
    except (ValueError, TypeError, OverflowError):  # neither
        return 0.0


def _number(text: str) -> float:
    return float(text) if re.fullmatch(r"\s*\d{1,15}(\.\d+)?\s*", text) else 0.0
