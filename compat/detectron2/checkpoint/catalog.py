"""Names for published backbones: ``catalog://ImageNetPretrained/...``."""

import difflib
from typing import Any

from detectron2._absent import module_getattr
from detectron2.utils.file_io import PathHandler, PathManager

# Name and place on the server, both below ImageNetPretrained/.
_FILES = {
    "MSRA/R-50": "MSRA/R-50.pkl",
    "MSRA/R-101": "MSRA/R-101.pkl",
    "FAIR/R-50-GN": "47261647/R-50-GN.pkl",
    "FAIR/R-101-GN": "47592356/R-101-GN.pkl",
    "FAIR/X-101-32x8d": "20171220/X-101-32x8d.pkl",
    "FAIR/X-101-64x4d": "FBResNeXt/X-101-64x4d.pkl",
    "FAIR/X-152-32x8d-IN5k": "25093814/X-152-32x8d-IN5k.pkl",
}


class ModelCatalog:
    """Where the backbones that Caffe2 Detectron published are found.

    Their batch norms are merged into affine layers, so they belong into models with frozen batch
    norm, and their pixels are not divided by a standard deviation (``PIXEL_STD`` is 1). The MSRA
    ones stride in the first 1x1 convolution of a block. Its detectors have no names here; load them
    by their address.
    """

    @staticmethod
    def get(name: str) -> str:
        """Return the address of a backbone.

        Args:
            name: the path without ``catalog://``.

        Raises:
            RuntimeError: no such backbone.
        """
        files = {f"ImageNetPretrained/{short}": file for short, file in _FILES.items()}
        if name in files:
            return f"https://dl.fbaipublicfiles.com/detectron/ImageNetPretrained/{files[name]}"
        near = ", ".join(difflib.get_close_matches(name, files, n=3, cutoff=0.5) or files)
        raise RuntimeError(f"{name!r} is not in the model catalog; did you mean {near}?")


class ModelCatalogHandler(PathHandler):
    """Lets `PathManager` open paths that start with ``catalog://``."""

    PREFIX = "catalog://"

    def _get_supported_prefixes(self) -> list[str]:
        return [self.PREFIX]

    def _get_local_path(self, path: str, **kwargs: Any) -> str:
        address = ModelCatalog.get(path.removeprefix(self.PREFIX))
        return PathManager.get_local_path(address, **kwargs)

    def _open(self, path: str, mode: str = "r", **kwargs: Any) -> Any:
        return PathManager.open(self._get_local_path(path), mode, **kwargs)


PathManager.register_handler(ModelCatalogHandler())

__getattr__ = module_getattr(__name__)
