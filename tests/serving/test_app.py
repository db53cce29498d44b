"""The endpoint of a server: its answers, its limits and its errors."""

import asyncio
import threading

from maskrcnn_repro.serving.answers import answer_of
from maskrcnn_repro.serving.app import PAGES, STATIC
from maskrcnn_repro.serving.limits import Limits

import numpy as np
import pytest
from pycocotools import mask as rle_codec

from tests.helpers.predictions import prediction
from tests.serving.fake import LIMITS, NASTY, Server, png, predict


@pytest.fixture(scope="module")
def server():
    return Server()


def test_an_answer_has_boxes_names_scores_and_masks(server):
    answer = server.post(png())
    assert answer.status_code == 200
    content = answer.json()
    assert (content["width"], content["height"]) == (40, 30)
    first, second = content["detections"]
    assert first.pop("mask")["size"] == [30, 40]
    assert first == {
        "box": [1, 2, 11, 22], "score": 0.75, "class_id": 1, "class_name": NASTY, "category_id": 7
    }  # fmt: skip
    assert rle_codec.decode(second["mask"]).sum() == 20
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("field", ["image", "file"])
def test_a_form_gets_what_the_bytes_get(server, field):
    by_form = server.ask("POST", "/predict", files={field: ("a.png", png())})
    by_bytes = server.post(png(), "application/octet-stream")
    assert by_form.json()["detections"] == by_bytes.json()["detections"]


def test_a_turned_photo_is_told_upright(server):
    content = png(
        40,
        30,
        kind="JPEG",
        exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0",
    )
    answer = server.post(content, "image/jpeg").json()
    assert (answer["width"], answer["height"]) == (30, 40)


def test_the_query_leaves_out_low_scores_and_masks(server):
    (detection,) = server.post(png(), query="?threshold=0.5&masks=none").json()["detections"]
    assert detection["score"] == 0.75
    assert "mask" not in detection


WRONG = [
    (400, b"no image at all", "image/png", "", "it is no image file that Pillow knows"),
    (400, b"", "image/png", "", "an empty file"),
    (400, png()[:600], "image/png", "", "truncated"),
    (413, png(101, 50), "image/png", "", "101 x 50 pixels, more than the 5000"),
    (413, bytes(LIMITS.max_bytes + 1), "image/png", "", "more than the 20000 bytes"),
    (415, png(mode="I;16"), "image/png", "", "grey of more than 8 bits"),
    (415, png(), "text/plain", "", "Content-Type 'text/plain'"),
    (422, png(), "image/png", "?threshold=0.05", "threshold 0.05 must be at least 0.1"),
    (422, png(), "image/png", "?threshold=nan", "threshold nan"),
    (422, png(), "image/png", "?threshold=x", "threshold: Input should be a valid number"),
    (422, png(), "image/png", "?masks=all", "masks 'all' must be rle or none"),
    (422, b"", "multipart/form-data", "", "The form cannot be read"),
]  # fmt: skip


@pytest.mark.parametrize(("status", "content", "kind", "query", "words"), WRONG)
def test_what_is_wrong_is_one_sentence_with_its_status(server, status, content, kind, query, words):
    answer = server.post(content, kind, query)
    assert answer.status_code == status
    assert list(answer.json()) == ["error"]
    assert words in answer.json()["error"]
    assert server.post(png()).status_code == 200  # its place in the queue is free again


def test_a_form_of_no_file_and_of_two_is_refused(server):
    no_file = server.ask("POST", "/predict", files={"image": (None, b"text")})
    two = server.ask("POST", "/predict", files=[("a", png()), ("b", png())])
    assert (no_file.status_code, two.status_code) == (422, 422)
    large = server.ask("POST", "/predict", files={"image": bytes(LIMITS.max_bytes + 1)})
    assert large.status_code == 413


def test_an_endless_upload_is_cut_off_long_before_its_end(server):
    sent = []

    async def endless():
        while True:
            sent.append(1)
            yield bytes(1000)

    answer = server.post(endless())
    assert answer.status_code == 413
    # Twice: read, and then read on for clients that look for an answer at the end alone.
    assert len(sent) <= 2 * LIMITS.max_bytes / 1000 + 2


def test_a_slow_upload_and_a_slow_model_end_at_the_time_limit():
    hold = threading.Event()
    server = Server(lambda content: hold.wait(20), Limits(seconds=0.2, places=1))

    async def slow():
        yield b"x"
        await asyncio.sleep(1)

    assert server.post(slow()).status_code == 408
    assert server.post(png()).status_code == 504
    # The model still computes for the one that has gone.
    assert server.post(png()).status_code == 503
    hold.set()
    server.worker.close()


def test_a_full_queue_says_when_to_come_again():
    started, hold = threading.Event(), threading.Event()

    def held(content):
        started.set()
        assert hold.wait(20)
        return predict(content)

    server = Server(held)

    async def ask():
        async with server.client() as client:
            post = {"content": png(), "headers": {"Content-Type": "image/png"}}
            inside = [asyncio.create_task(client.post("/predict", **post)) for _ in range(2)]
            await asyncio.to_thread(started.wait)
            await asyncio.sleep(0.05)
            outside = await client.post("/predict", **post)
            health = await client.get("/health")
            hold.set()
            return outside, health, await asyncio.gather(*inside)

    outside, health, inside = asyncio.run(ask())
    assert outside.status_code == 503
    assert int(outside.headers["retry-after"]) >= 1
    assert outside.json() == {"error": "All 2 places are taken; try again in 2 s."}
    assert health.json() == {"status": "ok"}
    assert [answer.status_code for answer in inside] == [200, 200]


def test_what_waits_for_a_client_that_has_gone_is_not_computed():
    started, hold, computed = threading.Event(), threading.Event(), []

    def held(content):
        started.set()
        computed.append(content)
        assert hold.wait(20)
        return predict(content)

    server = Server(held)
    headers = [(b"host", b"localhost"), (b"content-type", b"image/png")]
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/predict",
        "query_string": b"",
        "headers": headers,
    }

    async def leave():
        messages = iter([{"type": "http.request", "body": b"of the client that goes"}])

        async def receive():
            return next(messages, {"type": "http.disconnect"})

        async def send(message):
            pass

        async with server.client() as client:
            post = {"headers": {"Content-Type": "image/png"}}
            stays = asyncio.create_task(client.post("/predict", content=png(), **post))
            await asyncio.to_thread(started.wait)
            await server.app(scope, receive, send)
            # Its place is free, too.
            next_one = asyncio.create_task(client.post("/predict", content=png(50), **post))
            await asyncio.sleep(0.05)
            hold.set()
            return await asyncio.gather(stays, next_one)

    assert [answer.status_code for answer in asyncio.run(leave())] == [200, 200]
    assert computed == [png(), png(50)]


def test_a_failure_of_the_model_is_no_secret_and_no_hang():
    server = Server(lambda content: 1 / 0)
    for _ in range(3):
        answer = server.post(png())
        assert answer.status_code == 500
        assert answer.json() == {"error": "The server failed; its terminal shows why."}


def test_the_pages_are_the_files_of_the_package_and_no_others(server):
    for address, (name, kind) in PAGES.items():
        answer = server.ask("GET", address)
        assert answer.content == (STATIC / name).read_bytes()
        assert answer.headers["content-type"].startswith(kind)
    for address in (*PAGES, "/health", "/model"):
        assert server.ask("HEAD", address).status_code == 200
    assert {name for name, _ in PAGES.values()} == {path.name for path in STATIC.iterdir()}
    for address in ("/docs", "/app.py", "/..%2fapp.py", "/static/page.js"):
        answer = server.ask("GET", address)
        assert (answer.status_code, list(answer.json())) == (404, ["error"])
    assert server.ask("GET", "/predict").status_code == 405


def test_a_short_answer_leaves_out_masks_alone():
    scored = prediction(mask_scores=np.array([0.25], np.float32))
    (whole,), (short,) = (answer_of(scored, 0, masks)["detections"] for masks in (True, False))
    assert whole.pop("mask")
    assert short == whole
    assert short["mask_score"] == 0.25


def test_the_schema_tells_the_fields_of_an_answer(server):
    schema = server.ask("GET", "/openapi.json").json()
    parts = schema["components"]["schemas"]
    answer = server.post(png()).json()
    assert set(answer) == set(parts["Answer"]["properties"])
    absent = {"keypoints", "mask_score"}
    assert set(answer["detections"][0]) | absent == set(parts["Detection"]["properties"])
    assert {"200", "400", "413", "503", "504"} <= set(
        schema["paths"]["/predict"]["post"]["responses"]
    )
