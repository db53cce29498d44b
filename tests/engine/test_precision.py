"""Mixed precision of a training: losses and gradients in float32, what is in between in bfloat16."""

from maskrcnn_repro.config import get_config
from maskrcnn_repro.engine.accumulation import AccumulatingModel, build_step, whole_model
from maskrcnn_repro.engine.precision import (
    Bfloat16,
    check_precision,
    give_losses_float32,
    tell_precision,
)
from maskrcnn_repro.errors import ConfigError
from maskrcnn_repro.utils.precision import training_precision

import pytest
import torch
from detectron2.engine import SimpleTrainer
from torch import nn


class Model(nn.Module):
    """Its loss is the sum of what a layer makes of numbers, whose dtypes it keeps."""

    def __init__(self):
        super().__init__()
        self.features, self.predictor = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
        for layer in (self.features, self.predictor):
            nn.init.ones_(layer.weight)

    def forward(self, batch):
        hidden = self.features(torch.tensor(batch)[:, None])
        logits = self.predictor(hidden)
        self.dtypes = (hidden.dtype, logits.dtype)
        return {"loss": logits.sum()}


def config(enabled=True, dtype="bfloat16", parts=1):
    cfg = get_config()
    cfg.MODEL.DEVICE = "cpu"
    cfg.SOLVER.AMP.ENABLED, cfg.SOLVER.AMP.DTYPE, cfg.SOLVER.ACCUMULATE = enabled, dtype, parts
    return cfg


def test_by_hand():
    model = Model()
    give_losses_float32(model)
    losses = whole_model(config(), model, print, print)([257.0, 1.0])
    assert model.dtypes == (torch.bfloat16, torch.float32)
    # bfloat16 has 8 bits: 257 becomes 256.
    assert losses["loss"].item() == 257.0
    losses["loss"].backward()
    assert model.features.weight.grad.item() == 256.0  # of 256 + 1, in bfloat16
    assert model.features.weight.grad.dtype == torch.float32


def test_each_stage_of_a_cascade_gives_its_losses_float32():
    heads = nn.Module()
    heads.box_predictor = nn.ModuleList([nn.Linear(1, 1), nn.Linear(1, 1)])
    give_losses_float32(heads)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        dtypes = [stage(torch.ones(1, 1)).dtype for stage in heads.box_predictor]
    assert dtypes == [torch.float32, torch.float32]


def test_float32_is_not_touched():
    model = Model()
    assert whole_model(config(enabled=False), model, print, print) is model
    give_losses_float32(model)
    assert model([257.0])["loss"].item() == 257.0


def test_parts_of_a_batch_share_the_precision():
    model = Model()
    parts = whole_model(config(parts=2), model, lambda part: None, lambda loss: loss)
    assert isinstance(parts, AccumulatingModel)
    assert isinstance(parts.model, Bfloat16)
    losses = parts([257.0, 1.0])
    losses["loss"].backward()
    assert losses["loss"].item() == 128.5
    assert model.features.weight.grad.item() == 128.5


def test_no_loss_is_scaled_in_bfloat16():
    model = Model()
    step = build_step(config(), model, torch.optim.SGD(model.parameters(), lr=1.0), print)
    assert type(step) is SimpleTrainer
    assert [training_precision(config(on)) for on in (True, False)] == ["bfloat16", "float32"]


@pytest.mark.parametrize(("computes", "chosen"), [(True, "bfloat16"), (False, "float32")])
def test_auto_takes_bfloat16_only_where_it_is_fast(computes, chosen, monkeypatch, caplog):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: computes)
    cfg = config(dtype="auto")
    assert training_precision(cfg) == chosen
    assert training_precision(config(enabled=False, dtype="auto")) == "float32"
    model = Model()
    assert isinstance(whole_model(cfg, model, print, print), Bfloat16) == computes
    check_precision(cfg)
    with caplog.at_level("INFO"):
        tell_precision(cfg)
    assert caplog.messages == [f"SOLVER.AMP.DTYPE auto: this training computes in {chosen}."]


def test_bfloat16_that_is_emulated_is_told_to_be_slow(monkeypatch, caplog):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    tell_precision(config())
    assert caplog.messages[-1].startswith(
        "This device has no instructions for bfloat16: an iteration"
    )
    caplog.clear()
    tell_precision(config(enabled=False))
    assert caplog.messages == []


def test_float16_needs_a_gpu():
    check_precision(config())
    check_precision(config(enabled=False, dtype="float16"))
    with pytest.raises(
        ConfigError, match=r"DTYPE float16 needs a GPU, .* set SOLVER.AMP.DTYPE bfloat16"
    ):
        check_precision(config(dtype="float16"))
