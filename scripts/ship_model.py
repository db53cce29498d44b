#!/usr/bin/env python3
"""Write a finished run's model as a file that comes with the package.

The weights behind ``mini-fpn`` are those of

    python train_net.py --config-file configs/mini/starting_weights.yaml
    python scripts/ship_model.py output/mini/starting_weights mini-fpn
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "projects"))
from maskrcnn_repro.checkpoint.model_file import write_model
from maskrcnn_repro.checkpoint.model_source import find_model
from maskrcnn_repro.checkpoint.weight_file import SHIPPED, read_content, state_of

LARGEST = 8 * 2**20
"""Bytes of a file that every installation downloads."""
TOLD = (
    "metrics",
    "iterations",
    "train_seconds",
    "seed",
    "config_sha256",
    "code",
    "machine",
    "written",
)
"""What of ``results.json`` the file keeps; the rest are paths."""


def main() -> None:
    """Write the file, and say how large it is."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", type=Path, help="folder of a finished run")
    parser.add_argument("name", help="of the model")
    args = parser.parse_args()
    source = find_model(args.run)
    results = json.loads((args.run / "results.json").read_text(encoding="utf-8"))
    origin = {key: results[key] for key in TOLD}
    origin["data"] = [
        {"name": entry["name"], "sha256": entry["sha256"]} for entry in results["datasets"]["TRAIN"]
    ]
    origin["code"]["backend"].pop("location", None)
    # A name without a folder: where the run lay says nothing to others.
    source.cfg.OUTPUT_DIR = f"output/{args.name}"
    path = SHIPPED / f"{args.name}.safetensors"
    path.parent.mkdir(exist_ok=True)
    state = state_of(read_content(source.weights))
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        beside = Path(folder, path.name)
        write_model(beside, state, source.cfg, source.labels, origin)
        size = beside.stat().st_size
        if size > LARGEST:
            sys.exit(
                f"{size / 2**20:.2f} MiB are more than {LARGEST / 2**20:.0f} MiB: nothing was written."
            )
        beside.replace(path)
    print(f"{path}: {size / 2**20:.2f} MiB")


if __name__ == "__main__":
    main()
