"""An RPN and a detector joined to a model that predicts alone: its tensors, its config, its names."""

import json

from maskrcnn_repro import Predictor
from maskrcnn_repro.checkpoint.join import join
from maskrcnn_repro.checkpoint.model_file import read_facts
from maskrcnn_repro.checkpoint.model_source import find_model
from maskrcnn_repro.config_history import spelled_today
from maskrcnn_repro.errors import CheckpointError

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tests.helpers.tiny_models import tiny_config, tiny_model
from tests.helpers.tiny_predictor import LABELS, SMALL

PRECOMPUTED = {
    "MODEL.LOAD_PROPOSALS": True,
    "MODEL.PROPOSAL_GENERATOR.NAME": "PrecomputedProposals",
    "DATASETS.PROPOSAL_FILES_TEST": ("a.proposals",),
    "DATASETS.PRECOMPUTED_PROPOSAL_TOPK_TEST": 12,
    "MODEL.ANCHOR_GENERATOR.SIZES": [[1], [2], [3]],
}
"""Of a detector on stored proposals, to which anchors mean nothing."""


def of_kind(*prefixes):
    return {n: t for n, t in tiny_model().state_dict().items() if n.startswith(prefixes)}


def write(path, state, config=None, labels=False, wrapper="model"):
    facts = {"config": spelled_today(config)} if config is not None else {}
    facts |= LABELS.facts() if labels else {}
    torch.save({wrapper: state} | ({"maskrcnn_repro": facts} if facts else {}), path)
    return path


@pytest.fixture
def rpn(tmp_path):
    config = tiny_config(**SMALL)
    return write(tmp_path / "rpn.pth", of_kind("backbone.", "proposal_generator."), config)


@pytest.fixture
def detector(tmp_path):
    config = tiny_config(**SMALL, **PRECOMPUTED)
    return write(tmp_path / "det.pth", of_kind("backbone.", "roi_heads."), config, labels=True)


def test_the_joined_file_is_a_model_that_predicts_alone(rpn, detector, tmp_path):
    out = tmp_path / "joined.pth"
    join(rpn, detector, out)
    found = find_model(out)
    assert found.labels.class_names == LABELS.class_names
    assert found.labels.category_ids == LABELS.category_ids
    model = found.cfg.MODEL
    assert (model.LOAD_PROPOSALS, model.PROPOSAL_GENERATOR.NAME) == (False, "RPN")
    assert model.ANCHOR_GENERATOR.SIZES == [[16], [32], [64]]
    assert not found.cfg.DATASETS.PROPOSAL_FILES_TEST
    # The RPN proposes 20, and the detector reads 12 of them.
    assert model.RPN.POST_NMS_TOPK_TEST == 12
    content = torch.load(out)
    assert list(content["joined_from"]) == [str(rpn), str(detector)]
    state = tiny_model().state_dict()
    assert content["model"].keys() == state.keys()
    assert all(torch.equal(content["model"][name], tensor) for name, tensor in state.items())
    prediction = Predictor(out, device="cpu", threshold=0.0)(np.zeros((64, 80, 3), np.uint8))
    assert len(prediction.scores) == 5


def test_of_a_detector_with_an_rpn_of_its_own_the_number_of_proposals_stays(rpn, tmp_path):
    config = tiny_config(**SMALL, **{"MODEL.RPN.POST_NMS_TOPK_TEST": 7})
    state = of_kind("backbone.", "roi_heads.", "proposal_generator.")
    join(rpn, write(tmp_path / "a.pth", state, config), tmp_path / "joined.pth")
    assert find_model(tmp_path / "joined.pth").cfg.MODEL.RPN.POST_NMS_TOPK_TEST == 7


def test_what_the_files_do_not_tell_is_not_told(detector, tmp_path):
    state = of_kind("backbone.", "proposal_generator.")
    silent = write(tmp_path / "silent.pth", state)
    join(silent, detector, tmp_path / "joined.pth")
    facts = read_facts(tmp_path / "joined.pth")
    # Nothing tells the anchors.
    assert "config" not in facts
    assert facts["class_names"] == list(LABELS.class_names)
    heads = write(tmp_path / "heads.pth", of_kind("backbone.", "roi_heads."))
    join(silent, heads, tmp_path / "joined.pth")
    assert not {"config", "class_names"} & read_facts(tmp_path / "joined.pth").keys()


def test_a_detector_in_safetensors_tells_its_config_as_text(rpn, tmp_path):
    file = tmp_path / "det.safetensors"
    texts = {"config": tiny_config(**SMALL, **PRECOMPUTED).dump(), "class_names": '["a", "b", "c"]'}
    save_file(of_kind("backbone.", "roi_heads."), file, metadata=texts)
    join(rpn, file, tmp_path / "joined.pth")
    found = find_model(tmp_path / "joined.pth")
    assert found.class_names == ("a", "b", "c")
    assert json.dumps(found.cfg.MODEL.ANCHOR_GENERATOR.SIZES) == "[[16], [32], [64]]"


@pytest.mark.parametrize("wrapper", ["state_dict", "model_state"])
def test_tensors_lie_under_the_names_of_other_libraries_too(rpn, wrapper, tmp_path):
    heads = write(tmp_path / "a.pth", of_kind("backbone.", "roi_heads."), wrapper=wrapper)
    join(rpn, heads, tmp_path / "joined.pth")
    assert torch.load(tmp_path / "joined.pth")["model"].keys() == tiny_model().state_dict().keys()


@pytest.mark.parametrize(
    "content", [{"model": 3}, {"model": [1]}, {"model": {1: 2}}, {"model": {"backbone.a": 1}}]
)
def test_what_holds_no_tensors_is_refused(rpn, content, tmp_path):
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=r"a\.pth' is no checkpoint .* 'roi_heads\.\*'"):
        join(rpn, tmp_path / "a.pth", tmp_path / "joined.pth")
    assert not (tmp_path / "joined.pth").exists()
