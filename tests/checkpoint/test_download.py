"""Weights by address: whole, of a bounded size, with the stated hash, or not kept."""

import hashlib
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.error import URLError

from maskrcnn_repro.checkpoint.weight_file import local_file
from maskrcnn_repro.errors import CheckpointError
from maskrcnn_repro.utils import download

import pytest

from tests.helpers.commands import convert_weights

CONTENT = b"weights" * 1000
MD5 = hashlib.md5(CONTENT).hexdigest()
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


def test_the_address_and_hash_of_a_download_are_kept_beside_it(server, tmp_path):
    file = local_file(f"{server}/a.pth")
    record = file.with_name("a.pth.sha256")
    assert record.read_text() == f"{SHA256}  {server}/a.pth\n"


def test_a_file_that_changes_later_is_refused_until_its_record_is_removed(server):
    file = local_file(f"{server}/a.pth")
    file.write_bytes(b"other")
    with pytest.raises(
        CheckpointError, match=rf"but {SHA256[:8]}… when it first came; it was not kept"
    ):
        local_file(f"{server}/a.pth")
    assert local_file(f"{server}/a.pth").read_bytes() == CONTENT
    record = file.with_name("a.pth.sha256")
    record.write_text(f"{'0' * 64}  {server}/a.pth\n")
    with pytest.raises(CheckpointError, match=r"remove .*a\.pth\.sha256"):
        local_file(f"{server}/a.pth")
    record.unlink()
    assert local_file(f"{server}/a.pth") == file


def test_a_file_of_another_server_takes_the_place_of_one_of_the_same_path(server):
    file = local_file(f"{server}/a.pth")
    file.write_bytes(b"other")
    file.with_name("a.pth.sha256").write_text(f"{'0' * 64}  https://example.org/a.pth\n")
    assert local_file(f"{server}/a.pth").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("address", "path"),
    [
        ("hf://me/nuclei/best/a.pth", "me/nuclei/resolve/main/best/a.pth"),
        (f"hf://me/nuclei@v1/a.pth#sha256={SHA256}", "me/nuclei/resolve/v1/a.pth"),
    ],
)
def test_a_file_of_the_hub_is_fetched_once(server, tmp_path, monkeypatch, address, path):
    monkeypatch.setenv("HF_ENDPOINT", server)
    file = local_file(address)
    assert file == tmp_path / "cache" / path
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    file.with_name("a.pth.sha256").unlink()
    assert local_file(address).read_bytes() == CONTENT


@pytest.mark.parametrize("name", ["model_final_{}.pkl", "model_final_f10217.pkl"])
def test_a_file_of_the_zoo_has_the_md5_of_its_name(tmp_path, monkeypatch, name):
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(download, "_fetch", lambda _, place: place.write_bytes(CONTENT))
    address = f"detectron2://COCO-Detection/a/{name.format(MD5[:6])}"
    if "{}" in name:
        assert local_file(address).read_bytes() == CONTENT
    else:
        with pytest.raises(CheckpointError, match=f"MD5 begins with {MD5[:6]}, not f10217"):
            local_file(address)


def test_what_is_no_address_of_the_hub_is_told():
    with pytest.raises(CheckpointError, match="such as hf://OWNER/REPO/FILE"):
        local_file("hf://me/nuclei")


def test_without_a_network_the_sentence_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path / "cache"))

    def no_network(*_, **__):
        raise URLError(socket.gaierror(-3, "Temporary failure in name resolution"))

    monkeypatch.setattr(download, "urlopen", no_network)
    with pytest.raises(CheckpointError) as error:
        local_file("detectron2://COCO-Detection/model.pkl")
    assert str(error.value) == (
        "Weights 'detectron2://COCO-Detection/model.pkl' could not be fetched: Temporary failure in name "
        "resolution; check the address and the network, or download the file and name its path."
    )


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


def test_a_name_with_a_date_is_told_how_to_state_the_hash(server):
    words = rf"not 20240131; it was not kept \(if 20240131 in its name .*#sha256={SHA256[:8]}"
    with pytest.raises(CheckpointError, match=words):
        local_file(f"{server}/weights-20240131.pth")
    file = local_file(f"{server}/weights-20240131.pth#sha256={SHA256[:8]}")
    assert file.read_bytes() == CONTENT
    with pytest.raises(CheckpointError) as caught:
        local_file(f"{server}/weights-20240131.pth#sha256={'0' * 8}")
    assert "in its name" not in str(caught.value)


@pytest.mark.parametrize("place", ["", "/silent"])
def test_a_file_beyond_the_limit_is_not_kept(server, tmp_path, monkeypatch, place):
    monkeypatch.setattr(download, "LIMIT", 6999)
    with pytest.raises(CheckpointError, match=r"7000 bytes, of which at most 6999|more than 6999"):
        local_file(f"{server}{place}/a.pth")
    assert kept(tmp_path) == []


@pytest.mark.parametrize("path", ["/../home/new.sh", "/a/../../home/new.sh"])
def test_nothing_is_written_or_removed_outside_the_cache(server, tmp_path, path):
    mine = tmp_path / "home/new.sh"
    mine.parent.mkdir()
    mine.write_text("mine")
    with pytest.raises(CheckpointError, match=r"its path holds '\.\.'"):
        local_file(f"{server}{path}#sha256=00000000")
    assert mine.read_text() == "mine"
