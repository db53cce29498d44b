"""A checkpoint whose state of the training is nearly right: a training goes on from it, or from the one before."""

import io

from maskrcnn_repro.config import load_config
from maskrcnn_repro.engine.main import main
from maskrcnn_repro.engine.resolve import resolve_config
from maskrcnn_repro.engine.trainer_name import trainer_of

import pytest
import torch

from tests.fuzz.harness import try_files
from tests.fuzz.mutations import trees
from tests.helpers.tiny_coco import command_line, write_tiny_coco

pytestmark = pytest.mark.slow
NEWEST = "model_0000001.pth"
OPTS = ["DATASETS.TEST", "()"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Folder of a training of two iterations, without the manifest of its newest checkpoint."""
    data = write_tiny_coco(tmp_path_factory.mktemp("data"))
    folder = tmp_path_factory.mktemp("trained") / "run"
    assert main(command_line(data, folder, opts=OPTS)) == 0
    for name in ("model_final.pth", "model_final.json", "model_0000001.json"):
        (folder / name).unlink()
    return folder


def resume(trainer):
    """Load the newest checkpoint that is intact, and update once."""
    trainer.resume_or_load()
    assert trainer.start_iter in (1, 2)
    for parameter in trainer.model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    trainer.optimizer.step()
    trainer.scheduler.step()
    assert all(tensor.isfinite().all() for tensor in trainer.model.state_dict().values())


def test_state_of_a_training(folder):
    cfg = resolve_config(load_config(folder / "config.yaml"), training=True)
    trainer = trainer_of(cfg)(cfg)
    content = torch.load(folder / NEWEST)
    model = content.pop("model")

    def saved(tree):
        stream = io.BytesIO()
        torch.save({"model": model, **tree}, stream)
        return stream.getvalue()

    contents = trees(content).map(saved)
    places = [NEWEST, "run", "checkpoint"]
    try_files(lambda _: resume(trainer), folder / NEWEST, [saved(content)], contents, 150, places)
