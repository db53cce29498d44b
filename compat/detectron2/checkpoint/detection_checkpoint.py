"""Checkpoints of detection models in all the formats that they are published in."""

import os
from typing import Any
from urllib.parse import parse_qs

from fvcore.common.checkpoint import Checkpointer
from torch import nn

from detectron2._absent import module_getattr
from detectron2.utils import comm
from detectron2.utils.file_io import PathManager

from ._pickle import load_arrays
from .c2_model_loading import align_and_update_state_dicts


class DetectionCheckpointer(Checkpointer):
    """fvcore's `Checkpointer` that also reads model-zoo, Caffe2 Detectron and pycls files.

    ``.pkl`` is a model-zoo file or one of Caffe2 Detectron, ``.pyth`` one of pycls, everything else
    what `torch.save` wrote: a dict with "model", or a bare state dict. No format may run code.

    Args:
        model: saved and loaded without its data-parallel wrapper.
        save_dir: folder of the checkpoints; empty to save nothing.
        save_to_disk: None saves on the main process alone.
        **more: further objects with ``state_dict()`` and ``load_state_dict()``, saved by keyword.
    """

    def __init__(
        self, model: nn.Module, save_dir: str = "", *, save_to_disk: bool | None = None, **more: Any
    ):
        saves = comm.is_main_process() if save_to_disk is None else save_to_disk
        super().__init__(model, save_dir, save_to_disk=saves, **more)
        self.path_manager = PathManager
        self._match_by_suffix = False

    def load(self, path: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Load model and checkpointables; see `Checkpointer.load`.

        Args:
            path: a file or address; empty loads nothing. ``?matching_heuristics=True`` at its end
                matches weights by the ends of their names.
            *args: passed on.
            **kwargs: passed on.

        Raises:
            ValueError: `path` ends in any other query.
            pickle.UnpicklingError: the file holds more than weights.
        """
        address, _, query = path.partition("?")
        options = parse_qs(query)
        self._match_by_suffix = options.pop("matching_heuristics", None) == ["True"]
        if options:
            raise ValueError(
                f"Unsupported query {sorted(options)} in {path!r}; only matching_heuristics=True is"
            )
        file = self.path_manager.get_local_path(address) if address else ""
        return super().load(file, *args, **kwargs)

    def _load_file(self, filename: str) -> dict[str, Any]:
        match os.path.splitext(filename)[1]:
            case ".pkl":
                with PathManager.open(filename, "rb") as file:
                    content = load_arrays(file)
                if {"model", "__author__"} <= content.keys():
                    return content
                # Detectors have "blobs", backbones do not.
                author, ignored, weights = "Caffe2", "_momentum", content.get("blobs", content)
            case ".pyth":
                content = super()._load_file(filename)
                if "model_state" not in content:
                    raise ValueError(f"{filename} is no pycls checkpoint: it has no 'model_state'")
                author, ignored, weights = "pycls", "num_batches_tracked", content["model_state"]
            case _:
                content = super()._load_file(filename)
                extra = {"matching_heuristics": True} if self._match_by_suffix else {}
                return (content if "model" in content else {"model": content}) | extra
        weights = {name: each for name, each in weights.items() if not name.endswith(ignored)}
        return {"model": weights, "__author__": author, "matching_heuristics": True}

    def _load_model(self, checkpoint: dict[str, Any]) -> Any:
        if checkpoint.get("matching_heuristics"):
            weights, is_caffe2 = checkpoint["model"], checkpoint.get("__author__") == "Caffe2"
            self._convert_ndarray_to_tensor(weights)
            own = self.model.state_dict()
            checkpoint["model"] = align_and_update_state_dicts(own, weights, is_caffe2)
        incompatible = super()._load_model(checkpoint)

        # The config sets the pixel statistics, and anchors are computed: neither is a weight, but
        # old files may lack the former and hold the latter.
        buffers = {name for name, _ in self.model.named_buffers(recurse=False)}
        computed = buffers & {"pixel_mean", "pixel_std"}
        missing, unexpected = incompatible.missing_keys, incompatible.unexpected_keys
        missing[:] = [key for key in missing if key not in computed]
        unexpected[:] = [key for key in unexpected if "anchor_generator.cell_anchors" not in key]
        return incompatible


__getattr__ = module_getattr(__name__)
