"""HTML that cannot hurt: what HipChat's tag list allows of a message or a card, and nothing else.

The list is HipChat's (developer.atlassian.com/server/hipchat/messages). It is the first of three
walls: the page takes what passes here through an inert template, and its content security policy
would run no script and load nothing from elsewhere even so.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import nh3

_TABLES = {"table", "thead", "tbody", "tr", "td", "th"}
_LISTS = {"ul", "ol", "li"}
TAGS = {"a", "b", "i", "strong", "em", "br", "img", "pre", "code", "span", *_LISTS, *_TABLES}
CARD_TAGS = {"a", "b", "i", "strong", "span"}
ATTRIBUTES: dict[str, set[str]] = {
    "*": set(),  # or `title` and `lang` would be allowed everywhere
    "a": {"href"},
    "img": {"src", "alt"},
    "td": {"colspan", "rowspan"},
    "th": {"colspan", "rowspan"},
    "span": {"style"},
}
# Of HipChat's five, width and height do nothing to a span within a line.
STYLES = {"font-weight", "color", "text-decoration"}
SCHEMES = {"http", "https", "mailto"}
_SILENT = {"script", "style", "title", "template", "noscript", "iframe", "object", "svg", "math"}
_WIDEST = 20  # columns or rows of one cell
_CLEANERS: dict[str, nh3.Cleaner] = {}


def message(html: str) -> str:
    """Return what may be shown of a message's HTML, its styles as `data-style`.

    The page's policy lets no style attribute work, so the page sets these few by itself. In clean
    HTML the text `<span style="` is nothing but a tag: elsewhere its < or its quote is escaped.
    """
    return _clean("message", TAGS, html).replace('<span style="', '<span data-style="')


def card(html: str) -> str:
    """Return what may be shown of the HTML in a card."""
    return _clean("card", CARD_TAGS, html).replace('<span style="', '<span data-style="')


def text(html: str) -> str:
    """Return HTML as plain text, its line breaks kept: for screen readers and a terminal."""
    import html as entities

    broken = re.sub(r"<(?:br|/p|/li|/tr)\b[^>]{0,200}>", "\n", html, flags=re.IGNORECASE)
    return entities.unescape(_clean("text", set(), broken))


def link(url: str) -> str | None:
    """Return a URL that a link may lead to, or None."""
    found = re.match(r"(https?)://[^\s\x00-\x1f]+$", url, re.IGNORECASE)
    return url if found else None


def _clean(kind: str, tags: set[str], html: str) -> str:
    if kind not in _CLEANERS:
        import nh3

        _CLEANERS[kind] = nh3.Cleaner(
            tags=tags,
            clean_content_tags=_SILENT,
            attributes={tag: names for tag, names in ATTRIBUTES.items() if tag in {*tags, "*"}},
            attribute_filter=_attribute,
            filter_style_properties=STYLES,
            url_schemes=SCHEMES,
            url_relative="deny",
            link_rel="noopener noreferrer",
        )
    return _CLEANERS[kind].clean(html)


def _attribute(tag: str, name: str, value: str) -> str | None:
    """Return the attribute's value, or None to drop it."""
    if name in ("colspan", "rowspan"):
        return value if value.isdecimal() and 1 <= int(value[:4]) <= _WIDEST else None
    if tag == "img" and name == "src":
        return link(value)
    return value
