"""Weights by address: whole, of a bounded size, with the stated hash, or not kept."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from maskrcnn_repro.checkpoint.weight_file import local_file
from maskrcnn_repro.errors import CheckpointError
from maskrcnn_repro.utils import download

import pytest

from tests.helpers.commands import convert_weights

CONTENT = b"weights" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Address of a server of CONTENT: below /cut it stops early, below /silent it tells no length."""
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path / "cache"))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            if not self.path.startswith("/silent"):
                self.send_header("Content-Length", str(len(CONTENT)))
            self.end_headers()
            self.wfile.write(CONTENT[:100] if self.path.startswith("/cut") else CONTENT)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def kept(tmp_path):
    return sorted(p.name for p in (tmp_path / "cache").rglob("*") if p.suffix in (".pth", ".part"))


@pytest.mark.parametrize(
    "name", ["/a.pth", "/silent/a.pth", f"/a.pth#sha256={SHA256}", f"/a-{SHA256[:8]}.pth"]
)
def test_a_whole_file_is_kept(server, tmp_path, name):
    file = local_file(server + name)
    assert file.read_bytes() == CONTENT
    assert file.is_relative_to(tmp_path / "cache")


def test_what_is_converted_may_be_an_address(server, tmp_path, capsys):
    assert convert_weights([f"{server}/a.pth", str(tmp_path / "b.pth")]) == 2
    assert "it is no file of torch.save" in capsys.readouterr().err


def test_a_server_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path / "cache"))
    with pytest.raises(CheckpointError, match=r"fetched: [^<>]*refused; check the address"):
        local_file("http://127.0.0.1:9/a.pth")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("/cut/a.pth", "100 of 7000 bytes came"),
        ("/a.pth#sha256=" + "0" * 64, r"SHA-256 begins with .*, not 0+; it was not kept"),
        ("/a-00000000.pth", f"begins with {SHA256[:8]}, not 00000000"),
    ],
)
def test_a_part_or_another_file_is_not_kept(server, tmp_path, name, words):
    with pytest.raises(CheckpointError, match=rf"could not be fetched: .*{words}"):
        local_file(server + name)
    assert kept(tmp_path) == []


@pytest.mark.parametrize("place", ["", "/silent"])
def test_a_file_beyond_the_limit_is_not_kept(server, tmp_path, monkeypatch, place):
    monkeypatch.setattr(download, "LIMIT", 6999)
    with pytest.raises(CheckpointError, match=r"7000 bytes, of which at most 6999|more than 6999"):
        local_file(f"{server}{place}/a.pth")
    assert kept(tmp_path) == []
