"""A socket that is bound early, and a server that ends by signals."""

from __future__ import annotations

import os
import socket
from contextlib import AbstractContextManager, nullcontext

from maskrcnn_repro.engine.signals import handling
from maskrcnn_repro.errors import UserError

import uvicorn
from starlette.types import ASGIApp

_BACKLOG = 128
_GRACE = 5
"""Seconds in which answers that are under way are finished."""


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
    except OSError as error:
        # Python adds the address to the text of some of its errors.
        is_name = isinstance(error, socket.gaierror)
        reason = str(error.strerror if is_name else os.strerror(error.errno or 0)).lower()
        raise UserError(
            f"Port {port} of host {host!r} cannot be opened ({reason}); choose another with --port, 0 for any "
            "that is free."
        ) from error


class _Server(uvicorn.Server):
    """A server that leaves signals to its caller: uvicorn's own takes also those that are ignored on purpose."""

    def capture_signals(self) -> AbstractContextManager[None]:
        return nullcontext()


def serve_until_signal(app: ASGIApp, listener: socket.socket) -> int:
    """Serve until a signal comes, finish what is under way, and return the signal's number; a second one hurries."""
    config = uvicorn.Config(
        app,
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
