"""Images of the generated data, read back."""

import numpy as np
from PIL import Image


def open_image(data, number=1):
    """Return an image that ``generate`` wrote into the folder ``data``."""
    return np.asarray(Image.open(data / "images" / f"{number:06d}.png"))
