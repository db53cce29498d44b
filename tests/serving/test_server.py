"""A real server: many requests at once, and signals."""

import asyncio
import collections
import signal

from maskrcnn_repro import Predictor
from maskrcnn_repro.serving.answers import answer_of

import httpx
import pytest
import torch

from tests.helpers.tiny_predictor import write_pictures, write_tiny_model
from tests.serving.process import serving

pytestmark = pytest.mark.slow
PLACES = 6


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("one_thread")
def test_of_50_requests_at_once_each_is_answered_rightly_or_sent_away(model, tmp_path):
    sizes = [(64, 80 + number) for number in range(10)]
    contents = [file.read_bytes() for file in write_pictures(tmp_path / "pictures", sizes)]
    predictor = Predictor(model, 0.0, device="cpu", precision="auto")
    expected = [answer_of(predictor(content), 0, True)["detections"] for content in contents]
    assert len({str(detections) for detections in expected}) == len(contents)

    async def ask(address):
        limits = httpx.Limits(max_connections=50)
        async with httpx.AsyncClient(base_url=address, limits=limits, timeout=100) as client:
            posts = [
                client.post("/predict", files={"image": contents[number % 10]})
                for number in range(50)
            ]
            return await asyncio.gather(*posts)

    with serving(model, tmp_path, "--threshold", "0", "--queue", str(PLACES)) as (_, address):
        answers = asyncio.run(ask(address))
        again = httpx.post(f"{address}/predict", files={"image": contents[0]}, timeout=100)
    counts = collections.Counter(answer.status_code for answer in answers)
    assert set(counts) == {200, 503}, counts
    assert counts[200] >= PLACES
    for number, answer in enumerate(answers):
        if answer.status_code == 200:
            assert answer.json()["detections"] == expected[number % 10]
        else:
            assert int(answer.headers["retry-after"]) >= 1
    assert again.json()["detections"] == expected[0]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_server_with_its_status(model, tmp_path, number, status):
    options = ("--host", "0.0.0.0") if number == signal.SIGTERM else ()
    with serving(model, tmp_path, *options) as (process, address):
        assert httpx.get(address.replace("0.0.0.0", "127.0.0.1") + "/health").status_code == 200
        process.send_signal(number)
        assert process.wait(30) == status
    warning = "Warning: everyone who reaches this machine by the network"
    words = (tmp_path / "stderr").read_text()
    assert warning in words if options else words == "Interrupted.\n"
    assert "Traceback" not in words
