#!/usr/bin/env python3
"""Compare the losses of the main job in float32 and in bfloat16 with those of other seeds.

Usage: ``python scripts/compare_precisions.py [--iterations 200] [--seeds 1 2 3]``. Bfloat16 is as good if it moves the mean
loss of the last quarter by no more than another seed does.
"""

import argparse
import itertools
import statistics
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "projects")]

from maskrcnn_repro.config import load_config
from maskrcnn_repro.engine import Trainer
from maskrcnn_repro.engine.resolve import resolve_config

from detectron2.utils.env import seed_all_rng

CONFIG = "mini/mask_rcnn_fpn.yaml"
REDUCED = {"float32": "False", "bfloat16": "True"}


def main() -> None:
    """Train with every seed in both precisions, print the means and their differences."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config-file", default=CONFIG)
    parser.add_argument("--iterations", type=int, default=200)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    args = parser.parse_args()
    means = {
        (seed, precision): mean_loss(args.config_file, seed, precision, args.iterations)
        for seed in args.seeds
        for precision in REDUCED
    }
    for seed in args.seeds:
        print(f"seed {seed}:", *(f"{name} {means[seed, name]:.4f}" for name in REDUCED))
    moved = [abs(means[seed, "bfloat16"] - means[seed, "float32"]) for seed in args.seeds]
    pairs = itertools.combinations([means[seed, "float32"] for seed in args.seeds], 2)
    between = [abs(mean - other) for mean, other in pairs]
    print(f"bfloat16 moves the loss by {statistics.mean(moved):.4f}", end="")
    print(f", another seed by {statistics.mean(between):.4f}" if between else "")


def mean_loss(config: str, seed: int, precision: str, iterations: int) -> float:
    """Return the mean total loss of the last quarter of a training's first iterations."""
    with tempfile.TemporaryDirectory() as folder:
        opts = [
            *("SEED", str(seed), "OUTPUT_DIR", folder, "DATASETS.TEST", "()"),
            *("SOLVER.AMP.ENABLED", REDUCED[precision], "SOLVER.AMP.DTYPE", "bfloat16"),
        ]
        cfg = resolve_config(load_config(config, opts), training=True)
        seed_all_rng(seed)  # both precisions start from the same weights
        trainer = Trainer(cfg)
        # Of the whole schedule the first iterations.
        trainer.max_iter = iterations
        trainer.resume_or_load(resume=False)
        trainer.train()
        losses = [value for value, _ in trainer.storage.history("total_loss").values()]
    return statistics.mean(losses[-max(1, iterations // 4) :])


if __name__ == "__main__":
    main()
