"""One RoI operation in a config: ours decides, and Detectron2's keys beside it may only say the same."""

from maskrcnn_repro.config import get_config, load_config
from maskrcnn_repro.errors import ConfigError
from maskrcnn_repro.pooler_keys import HEADS, operation_of

import pytest

BOX, MASK = "MODEL.ROI_BOX_HEAD", "MODEL.ROI_MASK_HEAD"
HALF_PIXEL, OP = "MODEL.ROI_OP.HALF_PIXEL", "MODEL.ROI_OP.NAME"


def load(*opts):
    return load_config("mini/mask_rcnn_fpn.yaml", opts)


def poolers(cfg):
    heads = [cfg.MODEL[head] for head in HEADS]
    return [(head.POOLER_TYPE, head.POOLER_SAMPLING_RATIO) for head in heads]


def test_a_heads_own_operation_comes_first():
    model = {"ROI_OP": {"NAME": "RoIPool"}, "ROI_MASK_HEAD": {"ROI_OP": "RoIAlignAve"}}
    assert [operation_of(model, head) for head in HEADS] == ["RoIPool", "RoIAlignAve", "RoIPool"]
    assert operation_of({}, "ROI_BOX_HEAD") == ""


def test_where_our_operation_decides_detectron2s_keys_are_silent():
    assert poolers(load()) == [("", 0)] * 3


def test_without_our_operation_detectron2s_keys_count():
    cfg = load(OP, "", f"{BOX}.POOLER_TYPE", "ROIPool")
    assert poolers(cfg) == [("ROIPool", 0), ("ROIAlignV2", 0), ("ROIAlignV2", 0)]
    cfg = load(OP, "", f"{MASK}.ROI_OP", "RoIPool")
    assert poolers(cfg) == [("ROIAlignV2", 0), ("", 0), ("ROIAlignV2", 0)]


def test_a_config_from_python_is_not_touched():
    assert poolers(get_config()) == [("ROIAlignV2", 0)] * 3


@pytest.mark.parametrize(
    "opts",
    [
        (f"{BOX}.POOLER_TYPE", "ROIAlign", f"{BOX}.POOLER_SAMPLING_RATIO", "2"),
        (f"{BOX}.POOLER_TYPE", "ROIAlignV2", HALF_PIXEL, "True"),
        (f"{BOX}.POOLER_TYPE", "ROIPool", OP, "RoIPool", f"{BOX}.POOLER_SAMPLING_RATIO", "0"),
        (f"{MASK}.POOLER_TYPE", "ROIPool", f"{MASK}.ROI_OP", "RoIPool"),
        (f"{BOX}.POOLER_TYPE", "", f"{BOX}.POOLER_SAMPLING_RATIO", "0"),
        (f"{BOX}.POOLER_SAMPLING_RATIO", "3", "MODEL.ROI_OP.SAMPLES", "3"),
    ],
)
def test_the_same_operation_in_detectron2s_words_is_right(opts):
    assert poolers(load(*opts)) == [("", 0)] * 3


@pytest.mark.parametrize(
    ("opts", "message"),
    [
        (
            (f"{BOX}.POOLER_TYPE", "ROIPool"),
            r"ROI_BOX_HEAD.POOLER_TYPE 'ROIPool' \(command line\) is another .* than MODEL.ROI_OP.NAME 'RoIAlign",
        ),
        (
            (f"{BOX}.POOLER_TYPE", "ROIPool"),
            "which decides; write MODEL.ROI_OP.NAME 'RoIPool' and MODEL.ROI_OP.HALF_PIXEL False",
        ),
        (
            (f"{BOX}.POOLER_TYPE", "ROIAlignV2"),
            "write MODEL.ROI_OP.NAME 'RoIAlignAve' and MODEL.ROI_OP.HALF_PIXEL True, or set MODEL.ROI_OP.NAME ''",
        ),
        (
            (f"{MASK}.POOLER_TYPE", "ROIAlign", f"{MASK}.ROI_OP", "RoIPool"),
            "'ROIAlign' .* than MODEL.ROI_MASK_HEAD.ROI_OP 'RoIPool' .* write MODEL.ROI_MASK_HEAD.ROI_OP 'RoIA",
        ),
        ((f"{BOX}.POOLER_TYPE", "ROIAlignRotated"), "which decides; leave it out, or set"),
        (
            (f"{BOX}.POOLER_SAMPLING_RATIO", "4"),
            "RATIO 4 .* than MODEL.ROI_OP.SAMPLES 2, .* write MODEL.ROI_OP.SAMPLES 4",
        ),
        ((f"{BOX}.POOLER_SAMPLING_RATIO", "0"), "RATIO 0 .* leave it out"),
        ((f"{BOX}.POOLER_TYPE", "", OP, ""), "are both empty; name an RoI operation"),
    ],
)
def test_messages(opts, message):
    with pytest.raises(ConfigError, match=message):
        load(*opts)


def test_a_message_names_the_file(tmp_path):
    file = tmp_path / "own.yaml"
    file.write_text(
        "_BASE_: mini/mask_rcnn_fpn.yaml\nMODEL: {ROI_MASK_HEAD: {POOLER_TYPE: ROIPool}}\n"
    )
    with pytest.raises(ConfigError, match=r"'ROIPool' \(.*own.yaml:2\) is another operation"):
        load_config(file)
