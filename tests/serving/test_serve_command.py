"""The command ``maskrcnn serve`` before it serves: what stops it is one sentence."""

import importlib.util
import os
import signal
import socket
import sys
import threading

from maskrcnn_cli import main
from maskrcnn_repro.serving import server

import pytest


def error_of(capsys, *words):
    assert main(["serve", "no_model", *words]) == 2
    return capsys.readouterr().err


def test_a_port_in_use_is_told_before_the_model_is_loaded(capsys):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        error = error_of(capsys, "--port", str(port))
    assert error == (
        f"Error: Port {port} of host '127.0.0.1' cannot be opened (address already in use); choose another with "
        "--port, 0 for any that is free.\n"
    )


def test_an_address_of_another_machine_is_told(capsys):
    assert "host '192.0.2.1' cannot be opened" in error_of(capsys, "--host", "192.0.2.1")


@pytest.mark.parametrize("host", ["a" * 99, "127.0.0.1:80", "a..b"])
def test_a_host_that_cannot_be_is_told(capsys, host):
    error = error_of(capsys, "--host", host)
    assert error.startswith(f"Error: There is no host {host!r}; name an address")


def test_a_model_that_is_not_there_is_told(capsys):
    assert "Model 'no_model' is no folder" in error_of(capsys, "--port", "0")


def test_a_missing_package_is_told_with_its_cure(capsys, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert error_of(capsys) == (
        "Error: maskrcnn serve needs the package fastapi: pip install 'maskrcnn-repro[web]'.\n"
    )


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--port", "65536"),
        ("--port", "http"),
        ("--threshold", "1.1"),
        ("--threshold", "nan"),
        ("--queue", "0"),
        ("--allow-origin", "*"),
        ("--allow-origin", "example.org"),
        ("--allow-origin", "https://example.org/page"),
    ],
)
def test_a_value_that_cannot_be_is_told(capsys, option, value):
    error = error_of(capsys, option, value)
    assert option in error
    assert repr(value) in error


@pytest.mark.parametrize("sent", [b"", b"GET /hea", b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /hea"])
def test_a_client_that_asks_nothing_is_left(sent, monkeypatch):
    monkeypatch.setattr(server, "PATIENCE", 0.05)
    # As of a service that was started with closed output.
    monkeypatch.setattr(sys, "stdout", None)

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    def ask(address):
        with socket.create_connection(address) as client:
            client.settimeout(20)
            client.sendall(sent)
            while part := client.recv(4096):
                received.append(part)
        os.kill(os.getpid(), signal.SIGTERM)

    received = []
    with server.open_socket("127.0.0.1", 0) as listener:
        client = threading.Thread(target=ask, args=[listener.getsockname()])
        client.start()
        assert server.serve_until_signal(app, listener) == signal.SIGTERM
        client.join()
    assert b"".join(received).count(b" 204 ") == sent.count(b"Host")
