"""A server in this process, with a model that finds the same two objects in every image."""

import asyncio
import io

from maskrcnn_repro.data.image_file import ImageFiles
from maskrcnn_repro.inference.prediction import Prediction
from maskrcnn_repro.serving.app import build_app
from maskrcnn_repro.serving.limits import Limits
from maskrcnn_repro.serving.worker import ModelWorker

import httpx
import numpy as np
from PIL import Image
from pycocotools import mask as rle_codec

NASTY = "<img src=x onerror=alert(1)>"
LIMITS = Limits(max_bytes=20_000, max_pixels=5_000, seconds=20, places=2)
CARD = {"name": "fake", "threshold": 0.1}


def png(width=40, height=30, mode="RGB", kind="PNG", **options):
    """Return an image file of noise."""
    random = np.random.default_rng(0)
    noise = random.integers(0, 256, (height, width, 3), np.uint8)
    content = io.BytesIO()
    image = Image.fromarray(noise)
    # Older releases of Pillow convert no colours to 16 bits.
    image = (
        Image.fromarray(noise[..., 0].astype(np.uint16)) if mode == "I;16" else image.convert(mode)
    )
    image.save(content, kind, **options)
    return content.getvalue()


def predict(content):
    """Return two objects: (1, 2) to (11, 22) and (0, 0) to (4, 5), each mask its whole box."""
    image = ImageFiles(max_pixels=LIMITS.max_pixels).decode(io.BytesIO(content), "sent", "RGB")
    height, width = image.shape[:2]
    boxes = np.array([[1, 2, 11, 22], [0, 0, 4, 5]], np.float32)
    masks = np.zeros((2, height, width), np.uint8)
    for mask, (left, top, right, bottom) in zip(masks, boxes.astype(int), strict=True):
        mask[top:bottom, left:right] = 1
    rles = [rle_codec.encode(np.asfortranarray(mask)) for mask in masks]
    return Prediction(
        boxes=boxes,
        scores=np.array([0.75, 0.25], np.float32),
        class_ids=np.array([1, 0]),
        class_names=("disc", NASTY),
        category_ids=(4, 7),
        height=height,
        width=width,
        rles=[{"size": list(rle["size"]), "counts": rle["counts"].decode()} for rle in rles],
    )


class Server:
    """The application, asked without a network.

    Args:
        predict: of the model.
        limits: of the server.
        options: of ``build_app``.
    """

    def __init__(self, predict=predict, limits=LIMITS, **options):
        self.worker = ModelWorker(predict, limits.places)
        self.app = build_app(self.worker, CARD, limits, **options)

    def client(self):
        """Return a client for use within a running loop."""
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000")

    def ask(self, method, address, **options):
        """Return the answer to one request."""

        async def asked():
            async with self.client() as client:
                return await client.request(method, address, **options)

        return asyncio.run(asked())

    def post(self, content, kind="image/png", query="", **headers):
        """Return the answer to the bytes of an image."""
        headers = {"Content-Type": kind, **headers}
        return self.ask("POST", f"/predict{query}", content=content, headers=headers)
