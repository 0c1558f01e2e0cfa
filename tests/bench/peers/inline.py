"""What many notifiers are: a script that posts by itself."""

import sys

import requests

url = f"{sys.argv[1]}/v2/room/4242/notification"
body = {"message": "CRITICAL", "color": "red", "notify": True, "message_format": "text"}
requests.post(url, json=body, headers={"Authorization": "Bearer made-up"}, timeout=5)
