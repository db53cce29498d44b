"""The PathManager that opens all of Detectron2's files: local paths, URLs, ``detectron2://``."""

from iopath.common.file_io import HTTPURLHandler, OneDrivePathHandler, PathHandler
from iopath.common.file_io import PathManager as PathManagerBase

from detectron2._absent import module_getattr

__all__ = ["PathHandler", "PathManager"]

PathManager = PathManagerBase()
"""An instance of its own: handlers registered here do not reach other libraries, nor theirs us."""


class Detectron2Handler(PathHandler):
    """Files published with Detectron2: ``detectron2://`` is the root of its download server."""

    S3_DETECTRON2_PREFIX = "https://dl.fbaipublicfiles.com/detectron2/"

    def _get_supported_prefixes(self) -> list[str]:
        return ["detectron2://"]

    def _url(self, path: str) -> str:
        return path.replace("detectron2://", self.S3_DETECTRON2_PREFIX, 1)

    def _get_local_path(self, path: str, **kwargs) -> str:
        return PathManager.get_local_path(self._url(path), **kwargs)

    def _open(self, path: str, mode: str = "r", **kwargs):
        return PathManager.open(self._url(path), mode, **kwargs)


for _handler in (HTTPURLHandler, OneDrivePathHandler, Detectron2Handler):
    PathManager.register_handler(_handler())

__getattr__ = module_getattr(__name__)
