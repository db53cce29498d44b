"""Runs an exported model with NumPy, Pillow and onnxruntime: python onnx_without_torch.py detector.onnx photo.jpg."""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps


def detect(session: onnxruntime.InferenceSession, picture: Image.Image) -> dict[str, np.ndarray]:
    """Return the outputs by name for a Pillow image; boxes and keypoints are in its pixels."""
    metadata = session.get_modelmeta().custom_metadata_map
    export = json.loads(metadata["export"])
    picture = ImageOps.exif_transpose(picture).convert("RGB")
    width, height = picture.size
    if export["min_size"]:
        shorter, longer = sorted((width, height))
        scale = min(export["min_size"] / shorter, export["max_size"] / longer)
        if export["pixels"] == "uint8":
            sides = [int(side * scale + 0.5) for side in (width, height)]
            picture = picture.resize(sides, Image.Resampling.BILINEAR)
        else:  # as torchvision does: in float32, not antialiased
            w, h = (max(int(side * scale), 1) for side in (width, height))
            planes = [Image.fromarray(np.asarray(plane, np.float32)) for plane in picture.split()]
            move = Image.Transform.AFFINE, (width / w, 0, 0, 0, height / h, 0)
            picture = np.dstack(
                [x.transform((w, h), *move, Image.Resampling.BILINEAR) for x in planes]
            )
    inputs = {"image": np.asarray(picture, export["pixels"]), "size": np.array([height, width])}
    return dict(zip(export["outputs"], session.run(export["outputs"], inputs), strict=True))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
    names = json.loads(session.get_modelmeta().custom_metadata_map["class_names"])
    found = detect(session, Image.open(sys.argv[2]))
    for box, score, index in zip(found["boxes"], found["scores"], found["classes"], strict=True):
        print(f"{names[index]:<16} {score:.3f}  {' '.join(f'{side:.1f}' for side in box)}")
