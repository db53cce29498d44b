"""Gradients accumulated over the parts of a batch: the mean, and what as many more processes compute."""

import json
from pathlib import Path

from maskrcnn_repro.config import load_config
from maskrcnn_repro.data.stream import SampleStream
from maskrcnn_repro.engine import Trainer
from maskrcnn_repro.engine import main as engine_main
from maskrcnn_repro.engine.accumulation import AccumulatingModel, parts_of
from maskrcnn_repro.engine.main import main
from maskrcnn_repro.errors import ConfigError

import cv2
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.engine import HookBase
from detectron2.utils import comm
from torch import nn

from tests.helpers.tiny_coco import command_line, write_tiny_coco


class Product(nn.Module):
    """The loss of an image x is w * x; a batch has the mean, and noise of the part's generator."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(2.0))

    def forward(self, batch):
        loss = self.weight * torch.tensor(batch).mean()
        return {"loss": loss, "noise": self.weight * torch.rand(())}


def accumulating(model, parts, scale=lambda loss: loss):
    return AccumulatingModel(model, parts, seed_part=torch.manual_seed, scale=scale)


def test_losses_and_gradients_are_the_means_over_the_parts():
    torch.manual_seed(0)
    noise = torch.rand(())
    torch.manual_seed(1)
    noise = (noise + torch.rand(())) / 2
    model = Product()
    losses = accumulating(model, 2)([1.0, 2.0, 3.0, 6.0])
    sum(losses.values()).backward()
    # Parts (1, 2) and (3, 6): means 1.5 and 4.5, and of these 3.
    assert losses["loss"].item() == 6.0
    assert torch.isclose(model.weight.grad, 3 + noise)


def test_all_parts_are_scaled_alike():
    model, scaled = Product(), Product()
    sum(accumulating(model, 2)([1.0, 3.0]).values()).backward()
    losses = accumulating(scaled, 2, scale=lambda loss: 8 * loss)([1.0, 3.0])
    (8 * sum(losses.values())).backward()
    assert torch.isclose(scaled.weight.grad, 8 * model.weight.grad)


def test_a_part_reads_what_the_process_it_stands_for_reads(monkeypatch):
    def batches(rank, processes, parts):
        monkeypatch.setattr(comm, "get_rank", lambda: rank)
        monkeypatch.setattr(comm, "get_world_size", lambda: processes)
        groups = [index % 3 == 0 for index in range(10)]
        order = [(7 * i + 3) % 10 for i in range(rank, 400, processes)]
        stream = SampleStream(
            range(10), None, order, groups=groups, batch_size=2 * parts, parts=parts, seed=0
        )
        batches = stream.batches()
        return [next(batches) for _ in range(5)]

    four = [batches(rank, 4, 1) for rank in range(4)]
    for rank in range(2):
        for step, batch in enumerate(batches(rank, 2, 2)):
            assert batch == four[rank][step] + four[rank + 2][step]
    together = [[image for rank in range(4) for image in four[rank][step]] for step in range(5)]
    assert batches(0, 1, 4) == together


class RecordsGradients(HookBase):
    def after_backward(self):
        if comm.is_main_process():
            gradients = {n: p.grad for n, p in self.trainer.model.named_parameters()}
            file = Path(self.trainer.cfg.OUTPUT_DIR) / f"gradients{self.trainer.iter}.pt"
            torch.save({n.removeprefix("module."): g for n, g in gradients.items()}, file)


class RecordingTrainer(Trainer):
    def build_hooks(self):
        return [RecordsGradients()]


@pytest.mark.slow
def test_gradients_are_those_of_as_many_more_processes(tmp_path):
    """Frozen batch norm: the statistics of a batch are of one part. What is left is float32's rounding."""

    def gradients(name, parts, *options):
        folder = tmp_path / name
        data = tmp_path / "data" / "instances.json", tmp_path / "data" / "images"
        opts = ["SOLVER.IMS_PER_BATCH", "8", "SOLVER.ACCUMULATE", str(parts), "DATASETS.TEST", "()"]
        opts += [
            word
            for part in ("RESNETS", "FPN", "ROI_BOX_HEAD")
            for word in (f"MODEL.{part}.NORM", "FrozenBN")
        ]
        assert main(command_line(data, folder, *options, opts=opts), trainer=RecordingTrainer) == 0
        return [torch.load(folder / f"gradients{i}.pt") for i in range(2)]

    write_tiny_coco(tmp_path / "data", images=16)
    for processes, others in (((2, 1), [(1, 2)]), ((4, 1), [(2, 2), (1, 4)])):
        expected = gradients(f"{processes}", processes[1], "--num-gpus", str(processes[0]))
        largest = max(g.abs().max() for g in expected[0].values())
        assert largest > 0.1
        for count, parts in others:
            computed = gradients(f"{count}x{parts}", parts, "--num-gpus", str(count))
            for step in range(2):
                for name, gradient in expected[step].items():
                    assert (computed[step][name] - gradient).abs().max() < 1e-6 * largest, name


def write_like_scenes(folder, images):
    """Images of other colours with the same objects in the same places; returns JSON and image folder."""
    json_file, pictures = write_tiny_coco(folder, images=1)
    data = json.loads(json_file.read_text())
    (image,), annotations = data["images"], data["annotations"]
    pixels = cv2.imread(str(pictures / image["file_name"])).astype(int)
    data["images"], data["annotations"] = [], []
    for i in range(images):
        data["images"].append({**image, "id": i + 1, "file_name": f"like{i}.png"})
        cv2.imwrite(str(pictures / f"like{i}.png"), (pixels * (20 + i) // 28).astype("uint8"))
        for annotation in annotations:
            number = len(data["annotations"]) + 1
            data["annotations"].append({**annotation, "id": number, "image_id": i + 1})
    json_file.write_text(json.dumps(data))
    return json_file, pictures


EVERY_ANCHOR = [
    # All anchors become proposals, and all of these are sampled: nothing is drawn, and RoI counts are equal.
    # One ratio keeps the sums short, and so float32's rounding small.
    *("MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS", "[[1.0]]"),
    *("MODEL.RPN.BATCH_SIZE_PER_IMAGE", "4096", "MODEL.RPN.NMS_THRESH", "1.0"),
    *("MODEL.RPN.PRE_NMS_TOPK_TRAIN", "4096", "MODEL.RPN.POST_NMS_TOPK_TRAIN", "40960"),
    *("MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", "4096", "INPUT.RANDOM_FLIP", "none"),
    *("SOLVER.IMS_PER_BATCH", "8", "SOLVER.MAX_ITER", "1", "DATASETS.TEST", "()"),
    *("MODEL.RESNETS.NORM", "FrozenBN", "MODEL.FPN.NORM", "FrozenBN"),
    *("MODEL.ROI_BOX_HEAD.NORM", "FrozenBN"),
]


@pytest.mark.slow
def test_one_process_with_the_whole_batch_where_roi_counts_are_equal(tmp_path):
    data = write_like_scenes(tmp_path / "data", images=8)

    def gradients(name, *options, parts=1):
        opts = [*EVERY_ANCHOR, "SOLVER.ACCUMULATE", str(parts)]
        arguments = command_line(data, tmp_path / name, *options, opts=opts)
        if "tiny" in DatasetCatalog:  # of an earlier test, with other images
            DatasetCatalog.remove("tiny")
            MetadataCatalog.remove("tiny")
        assert main(arguments, trainer=RecordingTrainer) == 0
        return torch.load(tmp_path / name / "gradients0.pt")

    whole = gradients("1x8")
    largest = max(gradient.abs().max() for gradient in whole.values())
    assert largest > 0.1
    for divided in (gradients("2x4", "--num-gpus", "2"), gradients("accumulated", parts=2)):
        for name, gradient in whole.items():
            assert (divided[name] - gradient).abs().max() < 1e-6 * largest, name


def config(**solver):
    cfg = load_config("configs/mini/mask_rcnn_fpn.yaml", [])
    for key, value in solver.items():
        cfg.SOLVER[key] = value
    return cfg


def test_parts_make_the_reference_number_of_processes():
    assert parts_of(config(), 3) == 1
    assert parts_of(config(ACCUMULATE=5), 2) == 5
    assert parts_of(config(ACCUMULATE=0, REFERENCE_WORLD_SIZE=8), 2) == 4
    with pytest.raises(ConfigError, match=r"ACCUMULATE 0 needs SOLVER.REFERENCE_WORLD_SIZE, "):
        parts_of(config(ACCUMULATE=0), 1)
    with pytest.raises(ConfigError, match=r"ACCUMULATE 0 .*REFERENCE_WORLD_SIZE 8 processes of 3"):
        parts_of(config(ACCUMULATE=0, REFERENCE_WORLD_SIZE=8), 3)


def test_a_batch_that_processes_do_not_divide_is_refused_before_they_start(
    tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(engine_main, "launch", lambda *_: pytest.fail("processes were started"))
    data = tmp_path / "missing.json", tmp_path
    assert main(command_line(data, tmp_path / "out", "--num-gpus", "3")) == 2
    assert "and must be a multiple of their number, 3." in capsys.readouterr().err


def test_a_batch_that_parts_do_not_divide_is_refused(tmp_path, capsys):
    data = write_tiny_coco(tmp_path / "data")
    arguments = command_line(data, tmp_path / "out", opts=["SOLVER.ACCUMULATE", "3"])
    assert main(arguments) == 2
    assert "times SOLVER.ACCUMULATE, 1 x 3" in capsys.readouterr().err
    assert main([*arguments, "SOLVER.REFERENCE_WORLD_SIZE", "8", "SOLVER.ACCUMULATE", "1"]) == 2
    assert (
        "is the batch of SOLVER.REFERENCE_WORLD_SIZE 8 processes and must"
        in capsys.readouterr().err
    )
