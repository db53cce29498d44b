"""A socket that is bound early, and a server that ends by signals."""

from __future__ import annotations

import os
import socket
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from maskrcnn_repro.engine.signals import handling
from maskrcnn_repro.errors import UserError

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.auto import AutoHTTPProtocol

_BACKLOG = 128
_GRACE = 5
"""Seconds in which answers that are under way are finished."""
PATIENCE = 10.0
"""Seconds for the head of a request."""
_BUSY = object()


def open_socket(host: str, port: int) -> socket.socket:
    """Return a socket that listens; port 0 chooses a free one.

    Raises:
        UserError: there is no such host, or the port cannot be had.
    """
    try:
        family, *_, address = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        return socket.create_server(address[:2], family=family, backlog=_BACKLOG)
    except (socket.gaierror, UnicodeError) as error:
        # UnicodeError: a name that is too long, or has an empty part.
        raise UserError(
            f"There is no host {host!r}; name an address of this machine with --host, such as 127.0.0.1."
        ) from error
    except OSError as error:
        # Python adds the address to the text of some of its errors.
        reason = os.strerror(error.errno or 0).lower()
        raise UserError(
            f"Port {port} of host {host!r} cannot be opened ({reason}); choose another with --port, 0 for any "
            "that is free."
        ) from error


class _Connection(AutoHTTPProtocol):
    """A connection that is closed if its client begins no whole request for a while."""

    def connection_made(self, transport: Any) -> None:
        """Begin to watch."""
        super().connection_made(transport)
        self._watch(_BUSY)

    def _watch(self, before: object) -> None:
        """Close the connection if it has waited since it was last looked at, and look again later."""
        waits = self.cycle is None or self.cycle.response_complete
        if waits and self.cycle is before:
            self.transport.close()
        if not self.transport.is_closing():
            self.loop.call_later(PATIENCE, self._watch, self.cycle if waits else _BUSY)


class _Server(uvicorn.Server):
    """A server that leaves signals to its caller: uvicorn's own takes also those that are ignored on purpose."""

    def capture_signals(self) -> AbstractContextManager[None]:
        return nullcontext()


def serve_until_signal(app: ASGIApp, listener: socket.socket) -> int:
    """Serve until a signal comes, finish what is under way, and return the signal's number; a second one hurries."""
    config = uvicorn.Config(
        app,
        http=_Connection,
        # Uvicorn's own needs an open standard output; without it warnings go to standard error.
        log_config=None,
        log_level="warning",
        access_log=False,
        lifespan="off",
        ws="none",
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=_GRACE,
    )
    server = _Server(config)
    received: list[int] = []

    def end(number: int) -> None:
        server.force_exit = bool(received)
        server.should_exit = True
        received.append(number)

    with handling(end):
        server.run(sockets=[listener])
    return received[0]
