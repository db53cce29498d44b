"""Names for published Caffe2 models: ``catalog://ImageNetPretrained/...`` and ``catalog://Caffe2Detectron/COCO/...``."""

import difflib
from typing import Any

from detectron2._absent import module_getattr
from detectron2.utils.file_io import PathHandler, PathManager

# Name below ImageNetPretrained/, file below that folder of the server.
_IMAGENET = """
MSRA/R-50               MSRA/R-50.pkl
MSRA/R-101              MSRA/R-101.pkl
FAIR/R-50-GN            47261647/R-50-GN.pkl
FAIR/R-101-GN           47592356/R-101-GN.pkl
FAIR/X-101-32x8d        20171220/X-101-32x8d.pkl
FAIR/X-101-64x4d        FBResNeXt/X-101-64x4d.pkl
FAIR/X-152-32x8d-IN5k   25093814/X-152-32x8d-IN5k.pkl
"""

# Job number, name in the catalogue, name of the job's folder.
_DETECTRON = """
35857197 e2e_faster_rcnn_R-50-C4_1x         12_2017_baselines/{}.yaml.01_33_49.iAX0mXvW
35857345 e2e_faster_rcnn_R-50-FPN_1x        12_2017_baselines/{}.yaml.01_36_30.cUF7QR7I
35857890 e2e_faster_rcnn_R-101-FPN_1x       12_2017_baselines/{}.yaml.01_38_50.sNxI7sX7
36761737 e2e_faster_rcnn_X-101-32x8d-FPN_1x 12_2017_baselines/{}.yaml.06_31_39.5MIHi1fZ
35858791 e2e_mask_rcnn_R-50-C4_1x           12_2017_baselines/{}.yaml.01_45_57.ZgkA7hPB
35858933 e2e_mask_rcnn_R-50-FPN_1x          12_2017_baselines/{}.yaml.01_48_14.DzEQe4wC
35861795 e2e_mask_rcnn_R-101-FPN_1x         12_2017_baselines/{}.yaml.02_31_37.KqyEK4tT
36761843 e2e_mask_rcnn_X-101-32x8d-FPN_1x   12_2017_baselines/{}.yaml.06_35_59.RZotkLKI
48616381 e2e_mask_rcnn_R-50-FPN_2x_gn       04_2018_gn_baselines/{}_0416.13_23_38.bTlTI97Q
37697547 e2e_keypoint_rcnn_R-50-FPN_1x      12_2017_baselines/{}.yaml.08_42_54.kdzV35ao
35998355 rpn_R-50-C4_1x                     12_2017_baselines/{}.yaml.08_00_43.njH5oD9L
35998814 rpn_R-50-FPN_1x                    12_2017_baselines/{}.yaml.08_06_03.Axg0r179
36225147 fast_R-50-FPN_1x                   12_2017_baselines/fast_rcnn_R-50-FPN_1x.yaml.08_39_09.L3obSdQ2
"""


def _paths() -> dict[str, str]:
    """Return where each model lies on the server, by its name in the catalogue."""
    paths = {}
    for name, file in map(str.split, _IMAGENET.strip().splitlines()):
        paths[f"ImageNetPretrained/{name}"] = f"ImageNetPretrained/{file}"
    for job, name, folder in map(str.split, _DETECTRON.strip().splitlines()):
        group_norm = "GN/" if name.endswith("_gn") else ""
        task = "keypoints_coco" if "keypoint_rcnn" in name else "coco"
        # "%3A" is the colon between the data sets of one training, as the server spells it.
        data = f"{task}_2014_train%3A{task}_2014_valminusminival"
        model_type = "rpn" if name == "rpn_R-50-C4_1x" else "generalized_rcnn"
        paths[f"Caffe2Detectron/COCO/{job}/{name}"] = (
            f"{group_norm}{job}/{folder.format(name)}/output/train/{data}/{model_type}/model_final.pkl"
        )
    return paths


class ModelCatalog:
    """Where the models that Caffe2 Detectron published are found.

    Their batch norms are merged into affine layers, so they belong into models with frozen batch norm, and
    their pixels are not divided by a standard deviation (``PIXEL_STD`` is 1). The MSRA ones stride in the
    first 1x1 convolution of a block.
    """

    S3_C2_DETECTRON_PREFIX = "https://dl.fbaipublicfiles.com/detectron"
    _PATHS = _paths()

    @classmethod
    def get(cls, name: str) -> str:
        """Return the address of a model.

        Args:
            name: the path without ``catalog://``.

        Raises:
            RuntimeError: no such model.
        """
        if name in cls._PATHS:
            return f"{cls.S3_C2_DETECTRON_PREFIX}/{cls._PATHS[name]}"
        near = difflib.get_close_matches(name, cls._PATHS, n=3, cutoff=0.5) or sorted(cls._PATHS)
        raise RuntimeError(f"{name!r} is not in the model catalog; did you mean {', '.join(near)}?")


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
