"""Images by address: whole, of a bounded size, within a bounded time, from http and https alone."""

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from maskrcnn_repro.data.image_file import ImageError, ImageFiles
from maskrcnn_repro.inference.inputs import ImageReader
from maskrcnn_repro.inference.web_image import UrlLimits, read_address

import numpy as np
import pytest

from tests.helpers.tiny_predictor import write_pictures

LIMITS = UrlLimits(max_bytes=1 << 16, seconds=0.5)


class Answers(BaseHTTPRequestHandler):
    image = b""

    def log_message(self, *args):
        pass

    def do_GET(self):
        getattr(self, self.path.partition("?")[0].strip("/"))()

    def whole(self, content=None, length=None):
        content = self.image if content is None else content
        self.send_response(200)
        self.send_header("Content-Length", str(len(content) if length is None else length))
        self.end_headers()
        self.wfile.write(content)

    def short(self):
        self.whole(b"abc", 10)

    def large(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"0" * (2 << 16))

    def slow(self):
        self.send_response(200)
        self.end_headers()
        for _ in range(20):
            self.wfile.write(b"0")
            time.sleep(0.1)

    def slow_header(self):
        for _ in range(20):
            self.wfile.write(b"H")
            time.sleep(0.1)

    def to(self):
        self.send_response(302)
        self.send_header("Location", self.path.partition("?")[2])
        self.end_headers()


@pytest.fixture(scope="module")
def server():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # clients hang up
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_an_image_has_the_pixels_of_its_file(server, tmp_path):
    [file] = write_pictures(tmp_path, [(20, 30)])
    Answers.image = file.read_bytes()
    reader = ImageReader(ImageFiles(), "RGB", LIMITS)
    expected = reader.read(file)
    assert np.array_equal(reader.read(f"{server}/whole"), expected)
    assert np.array_equal(reader.read(f"{server}/to?{server}/whole"), expected)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("short", "3 of 10 bytes|IncompleteRead"),
        ("large", "more than the 65536 bytes"),
        ("to?ftp://127.0.0.1/x", "neither http nor https"),
        ("to?file:///etc/hostname", "Redirection to url .* is not allowed"),
        ("to?/to?/to?/to?/to?/to?/to?/to?/to?/to?/to?/to?/whole", "redirect|Location|302"),
        ("none", "cannot be fetched"),
    ],
)
def test_what_is_not_taken_is_named(server, path, words):
    with pytest.raises(ImageError, match=words) as caught:
        read_address(f"{server}/{path}", LIMITS)
    assert f"Image {server}/{path} cannot be fetched: " in str(caught.value)


@pytest.mark.parametrize("path", ["slow", "slow_header"])
def test_a_server_that_dawdles_is_given_up(server, path):
    begin = time.monotonic()
    with pytest.raises(ImageError, match=r"did not come within 0\.2 seconds"):
        read_address(f"{server}/{path}", UrlLimits(seconds=0.2))
    assert time.monotonic() - begin < 1


def test_addresses_can_be_refused(server):
    with pytest.raises(ImageError, match="addresses are not read here"):
        ImageReader(ImageFiles(), "RGB", None).read(f"{server}/whole")


def test_what_is_no_image_is_named_by_its_address(server):
    Answers.image = b"<html>"
    with pytest.raises(ImageError, match=r"/whole cannot be read: it is a web page"):
        ImageReader(ImageFiles(), "RGB", LIMITS).read(f"{server}/whole")
