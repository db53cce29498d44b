"""Who may talk to a server: requests for other names and from other sites are refused.

A page of another site can reach a server on the reader's own machine: by posting to it, which the header Origin
tells, or by a name of its own that it lets point there (DNS rebinding), which the header Host tells.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from urllib.parse import urlsplit

from fastapi.responses import JSONResponse
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = ("localhost", "127.0.0.1", "::1")
WILDCARDS = ("", "0.0.0.0", "::")
SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
}


class Guard:
    """An ASGI application that checks Host and Origin, and adds security headers to every answer.

    Args:
        app: the application behind it.
        host: that the server is bound to; requests may name it beside the loopback names. Of all addresses of a
            machine (``0.0.0.0``) any address may be named, as rebinding needs a name.
        origins: of other sites that may ask, ``https://host:port``; a proxy of that name may stand before the server.
    """

    def __init__(self, app: ASGIApp, host: str, origins: Collection[str] = ()) -> None:
        self._app = app
        self._origins = frozenset(origin.lower() for origin in origins)
        self._names = {*LOOPBACK, host.lower(), *filter(None, map(_host_in, self._origins))}
        self._takes_addresses = host in WILDCARDS

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(SECURITY_HEADERS)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        if sentence := self._refusal(Headers(scope=scope)):
            answer = JSONResponse({"error": sentence}, 403, {"Connection": "close"})
            await answer(scope, receive, secured)
        else:
            await self._app(scope, receive, secured)

    def _refusal(self, headers: Headers) -> str:
        host, origin = headers.get("host", ""), headers.get("origin")
        name = _host_in(f"//{host}")
        if name not in self._names and not (self._takes_addresses and _is_address(name)):
            return (
                f"This server does not answer to the name {name!r}; use its address, or start it with "
                "--allow-origin http://NAME:PORT."
            )
        if origin is None or origin.lower() in self._origins:
            return ""
        if origin.lower().partition("://")[2] == host.lower():
            return ""
        return f"Pages of {origin!r} may not use this server; start it with --allow-origin to let them."


def _host_in(address: str) -> str:
    """Return the lower-case host of an address; empty without."""
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return ""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
