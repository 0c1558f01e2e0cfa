"""The room: a local HipChat to post to, and a page on which to watch and hear it.

It needs the extra `room`: werkzeug (requests and routes), cheroot (the server), nh3 (which cleans
HTML) and jsonschema (the contract). Nothing else of flipbell imports it, save its commands.
"""
