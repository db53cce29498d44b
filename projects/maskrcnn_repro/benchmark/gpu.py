"""One check of a GPU, without a network: the kernels are right, and how fast the models are beside their peers."""

from __future__ import annotations

import argparse
import importlib.util
import os
from dataclasses import replace
from pathlib import Path

from maskrcnn_repro.benchmark.gpu_models import compare, product_rate
from maskrcnn_repro.benchmark.gpu_models import table as table_of_models
from maskrcnn_repro.benchmark.gpu_worker import Task
from maskrcnn_repro.benchmark.processes import BenchmarkError, check_python
from maskrcnn_repro.benchmark.report import save
from maskrcnn_repro.benchmark.statistics import check_rounds
from maskrcnn_repro.utils.provenance import code_origin

import torch

FULL = Task("", "", "", height=800, width=1088, batch=2, proposals=1000, rois=512, detections=100)
TINY = Task("", "", "", height=64, width=96, batch=1, proposals=8, rois=8, detections=3)


def run(args: argparse.Namespace) -> None:
    """Check the kernels, measure the models, print both tables and write the JSON file.

    Raises:
        BenchmarkError: there is no such device or Python, no Triton, or too few rounds; a kernel differs from torch's form; a
            process failed.
    """
    _check(args)
    if args.device == "cpu":
        # Read where the kernels are imported.
        os.environ["TRITON_INTERPRET"] = "1"
    from maskrcnn_repro.benchmark import gpu_kernels

    size = gpu_kernels.TINY if args.tiny else gpu_kernels.FULL
    checks = list(gpu_kernels.checks(args.device, size))
    print(gpu_kernels.table(checks), flush=True)
    task = replace(TINY if args.tiny else FULL, device=args.device)
    rate = product_rate(args.device, 256 if args.tiny else 8192)
    models = compare(task, args.detectron2, args.python, args.rounds)
    print(f"\n{table_of_models(models, rate, task.batch)}")
    print(f"bf16 rate of a large matrix product: {rate / 1e12:.2f} TFLOP/s")
    facts = {"gpu": _device_name(args.device), "torch": torch.__version__, "bf16_rate": rate}
    kernels = [gpu_kernels.as_json(check) for check in checks]
    save(args.output, "gpu", facts, code=code_origin(), kernels=kernels, models=models)
    wrong = [check.name for check in checks if not check.passed]
    if wrong:
        raise BenchmarkError(
            f"{len(wrong)} of {len(checks)} kernels are wrong: {'; '.join(wrong)}."
        )


def _check(args: argparse.Namespace) -> None:
    check_rounds(args.rounds)
    if args.device != "cpu" and not _is_gpu(args.device):
        raise BenchmarkError(
            f"--device {args.device}: torch sees no such GPU; the check itself is tried by --device cpu --tiny."
        )
    if args.device == "cpu" and not args.tiny:
        raise BenchmarkError("--device cpu needs --tiny: the kernels are interpreted there.")
    if importlib.util.find_spec("triton") is None:
        raise BenchmarkError("Triton is not installed, and its kernels are what is checked.")
    if args.detectron2 and not (Path(args.detectron2) / "detectron2").is_dir():
        raise BenchmarkError(
            f"--detectron2 {args.detectron2}: there is no folder detectron2 in it."
        )
    if args.detectron2:
        check_python(args.python)


def _is_gpu(device: str) -> bool:
    gpus = torch.cuda.device_count()
    return gpus > 0 and device in ("cuda", *(f"cuda:{number}" for number in range(gpus)))


def _device_name(device: str) -> str:
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else "none"
