"""Messages that try to run a script, load something, or leave their place on the room's page.

Each script would push to `window.pwned`. Most are of the kinds in OWASP's filter evasion sheet and
in the mutation tricks that sanitisers have met.
"""

from __future__ import annotations

from typing import Any

ELSEWHERE = "https://elsewhere.invalid"  # a request there is a failure
P = "window.pwned.push(1)"
Q = "window.pwned.push`1`"


def _html(*messages: str) -> list[dict[str, Any]]:
    return [{"message": message} for message in messages]


def _card(**fields: Any) -> dict[str, Any]:
    return {"message": "a card", "card": {"style": "link", "title": "t", "id": "1", **fields}}


SCRIPTS = _html(
    f"<script>{P}</script>",
    f"<SCRIPT SRC={ELSEWHERE}/x.js></SCRIPT>",
    f"<scr<script>ipt>{P}</scr</script>ipt>",
    f"<script/src=data:text/javascript,{P}></script>",
    f"<script type=module>{P}</script>",
    f"<svg><script>{P}</script></svg>",
    f"<svg><script xlink:href=data:,{P} />",
    f"<math><mtext><script>{P}</script></mtext></math>",
    f"<<script>{P}//<</script>",
    f"<script\x20type='text/javascript'>{P}</script\x0b>",
    f"</script><script>{P}</script>",
    f"<b>x</b><!--><script>{P}</script>-->",
    f"<![CDATA[<script>{P}</script>]]>",
)
HANDLERS = _html(
    f"<img src=x onerror={P}>",
    f'<img src="x" onerror="{P}" alt="broken">',
    f"<img/src=x/onerror={Q}>",
    f"<img src=`x` onerror={Q}>",
    f"<b onmouseover={P}>hover</b>",
    f"<b onclick={P} onfocus={P} tabindex=1 autofocus>click</b>",
    f"<svg onload={P}>",
    f"<svg/onload={Q}>",
    f"<body onload={P}>",
    f"<details open ontoggle={P}>x</details>",
    f"<marquee onstart={P}>x</marquee>",
    f"<video><source onerror={P}></video>",
    f"<audio src=x onerror={P}></audio>",
    f"<input autofocus onfocus={P}>",
    f"<table><td background=x onmouseenter={P}>cell</td></table>",
    f"<span style='animation-name:x' onanimationstart={P}>x</span>",
    f"<a href='https://example.com' onclick='{P}'>link</a>",
    f"<pre ONCLICK={P}>x</pre>",
)
LINKS = _html(
    f"<a href='javascript:{P}'>x</a>",
    f"<a href='JaVaScRiPt:{P}'>x</a>",
    f"<a href=' &#14; javascript:{P}'>x</a>",
    f"<a href='java&#10;script:{P}'>x</a>",
    f"<a href='java&Tab;script:{P}'>x</a>",
    f"<a href='&#x6a;avascript:{P}'>x</a>",
    f"<a href='data:text/html,<script>{P}</script>'>x</a>",
    f"<a href='vbscript:{P}'>x</a>",
    "<a href='file:///etc/passwd'>x</a>",
    "<a href='//elsewhere.invalid/' target='_self'>x</a>",
    f"<a href='blob:{ELSEWHERE}/x'>x</a>",
    f"<form action='javascript:{P}'><button>x</button></form>",
    f"<button formaction='javascript:{P}'>x</button>",
    f"<svg><a xlink:href='javascript:{P}'><text>x</text></a></svg>",
    f"<iframe src='javascript:{P}'></iframe>",
)
LOADS = _html(
    f"<img src='{ELSEWHERE}/pixel.png' alt='a pixel'>",
    f"<img srcset='{ELSEWHERE}/pixel.png 1x'>",
    f"<a href='https://example.com'><img src='{ELSEWHERE}/in-a-link.png'></a>",
    f"<link rel=stylesheet href='{ELSEWHERE}/x.css'>",
    f"<style>@import '{ELSEWHERE}/x.css';</style>",
    f"<iframe src='{ELSEWHERE}/'></iframe>",
    f"<iframe srcdoc='<script>parent.{P}</script>'></iframe>",
    f"<object data='{ELSEWHERE}/x.swf'></object><embed src='{ELSEWHERE}/x.swf'>",
    f"<meta http-equiv=refresh content='0;url={ELSEWHERE}/'>",
    f"<base href='{ELSEWHERE}/'><a href='x'>x</a>",
    f"<table background='{ELSEWHERE}/x.png'><tr><td>x</td></tr></table>",
    f"<span style='background:url({ELSEWHERE}/x.png)'>x</span>",
    f"<video poster='{ELSEWHERE}/x.png'></video>",
    f"<svg><image href='{ELSEWHERE}/x.png'/></svg>",
)
STYLES = _html(
    "<span style='position:fixed;top:0;left:0;width:9999px;height:9999px;z-index:99'>over</span>",
    "<span style='color:red;position:absolute;margin:-9999px'>away</span>",
    "<style>*{display:none}</style>gone?",
    "<span style='color:expression(alert(1))'>x</span>",
    "<span style='color:red;background-image:url(javascript:alert(1))'>x</span>",
    "<span style='font-weight:bold;color:var(--x,url(x))'>x</span>",
    "<span data-style='position:fixed;color:red'>forged</span>",
    "<table><tr><td colspan=100000 rowspan=99999>wide</td></tr></table>",
    "<pre>" + "w" * 3000 + "</pre>",
    "n" * 3000,
)
MUTATIONS = _html(
    f"<noscript><p title='</noscript><img src=x onerror={P}>'>",
    f"<template><img src=x onerror={P}></template>",
    f"<math><mtext><table><mglyph><style><img src=x onerror={P}></style></mglyph></table></mtext>",
    f"<svg></p><style><a title='</style><img src=x onerror={P}>'>",
    f"<form><math><mtext></form><form><mglyph><style></math><img src=x onerror={P}>",
    f"<a title='<span style=\"x'><img src=x onerror={P}>",
    f'<a href=\'https://example.com/<span style="color:red">"><img src=x onerror={P}>\'>x</a>',
    f"<select><option><img src=x onerror={P}></select>",
    f"<textarea></textarea><img src=x onerror={P}></textarea>",
    f"&lt;img src=x onerror={P}&gt;",
    f"<xmp><p title='</xmp><img src=x onerror={P}>'>",
    "<a id=messages name=feed>clobber</a><img name=getElementById><form id=older>",
    f"</li></ol></main><img src=x onerror={P}>",
    f"<img src=x alt='\"><script>{P}</script>'>",
)
ELSEWHERE_IN_A_MESSAGE: list[dict[str, Any]] = [
    {"message": f"<script>{P}</script>", "message_format": "text"},
    {"message": f"<img src=x onerror={P}> javascript:{P}", "message_format": "text"},
    {"message": f"https://example.com/\"onmouseover={P}//'<b>", "message_format": "text"},
    {"message": "a\u202egnp.exe", "message_format": "text"},
    {"message": "x", "from": f"<img src=x onerror={P}>"},
    {"message": "x", "attach_to": "\"><img src=x onerror='1'>"},
    _card(title=f"<img src=x onerror={P}>", url=f"javascript:{P}"),
    _card(description={"value": f"<img src=x onerror={P}><b>b</b>", "format": "html"}),
    _card(description=f"<script>{P}</script>"),
    _card(activity={"html": f"<b onclick={P}>x</b><img src={ELSEWHERE}/x.png>"}),
    _card(icon=f"{ELSEWHERE}/icon.png", thumbnail={"url": f"{ELSEWHERE}/thumb.png"}),
    _card(attributes=[{"label": "<b>", "value": {"label": "<i>", "url": f"javascript:{P}"}}]),
]
CORPUS = [*SCRIPTS, *HANDLERS, *LINKS, *LOADS, *STYLES, *MUTATIONS, *ELSEWHERE_IN_A_MESSAGE]
