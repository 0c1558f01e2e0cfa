"""A HipChat client that nobody here wrote: hypchat 0.21, of 2016, against the room, over TLS."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from hipchat_room import TOKEN
from open_room import OpenRoom

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# As its authors left it, without a patch. It knows a room by its https:// link, hence TLS.
CLIENT = """
import sys, warnings
warnings.simplefilter("ignore")  # of its regular expressions, which Python 3.12 complains about
import hypchat
from hypchat.requests import HttpUnauthorized, HttpBadRequest

token = open(sys.argv[2]).read().strip()
client = hypchat.HypChat(token, endpoint=sys.argv[1], verify=sys.argv[3])
room = client.get_room("ops")
assert type(room).__name__ == "Room", type(room)
print("room", room["id"], room["name"])
room.notification("<b>CRITICAL</b>: disk on web-01", color="red", notify=True)
room.notification("@here 監視", color="green")
for item in room.history()["items"]:
    print(item["date"].year >= 2026, item["color"], item["message_format"], ascii(item["message"]))
latest = room.latest(maxResults=1)["items"]
print("latest", latest[0]["color"], latest[0]["type"])
print("paged", len(list(room.history(maxResults=1).contents())))
try:
    room.notification("x", color="orange")
except HttpBadRequest as error:
    print("refused", error.response.json()["error"]["field"])
try:
    hypchat.HypChat("wrong", endpoint=sys.argv[1], verify=sys.argv[3]).get_room("ops")
except HttpUnauthorized as error:
    print("refused", error.response.json()["error"]["message"])
"""


def test_hypchat_authenticates_posts_and_reads_history(
    tmp_path: Path, tool: Callable[[str], str]
) -> None:
    cert, key = str(tmp_path / "cert.pem"), str(tmp_path / "key.pem")
    subprocess.run(
        [
            *(tool("openssl"), "req", "-x509", "-newkey", "ec", "-nodes", "-days", "2"),
            *("-pkeyopt", "ec_paramgen_curve:P-256", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", cert),
        ],
        check=True,
        capture_output=True,
    )
    with OpenRoom(tmp_path, "--memory", f"--cert={cert}", f"--key={key}") as room:
        assert room.url.startswith("https://")
        url = room.url.replace("127.0.0.1", "localhost")
        done = subprocess.run(
            [sys.executable, "-c", CLIENT, url, str(tmp_path / "ops.token"), cert],
            check=False,
            capture_output=True,
            encoding="utf-8",
            timeout=60,
        )

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "room 1 ops",
        "True red html '<b>CRITICAL</b>: disk on web-01'",
        "True green text '@here \\u76e3\\u8996'",
        "latest green notification",
        "paged 2",
        "refused color",
        "refused Invalid OAuth session",
    ]
    assert TOKEN not in done.stderr
