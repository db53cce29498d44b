"""Where a number comes from: ``results.json``, without which it is no result."""

from __future__ import annotations

import datetime
import functools
import hashlib
import json
import math
import platform
import re
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from maskrcnn_repro._backend import BACKEND
from maskrcnn_repro._location import CHECKOUT
from maskrcnn_repro._version import __version__
from maskrcnn_repro.config_history import spelled_first
from maskrcnn_repro.plugins import loaded_plugins
from maskrcnn_repro.utils.files import write_text
from maskrcnn_repro.utils.hashes import sha256_of
from maskrcnn_repro.utils.precision import training_precision

import torch
import yaml
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.utils import comm

_SIMPLE = re.compile(r"[!-~]*|[ -~]{1,20}")
_CWriter = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
_NO_VERSIONS = frozenset({"commit", "backend", "plugins"})
"""What ``code`` of a ``results.json`` holds beside versions."""
LIBRARIES = ("torch", "torchvision", "numpy", "pycocotools", "fvcore", "opencv-python-headless")


@dataclass(frozen=True)
class Progress:
    """How far a model was trained."""

    iterations: int
    train_seconds: float | None
    """Over all resumptions, without evaluations; None if the weights do not tell."""

    @classmethod
    def of_checkpoint(cls, rest: Mapping[str, Any]) -> Progress:
        """Read it from what a checkpoint holds beside the model; 0 iterations if nothing is said."""
        hooks = rest.get("trainer", {}).get("hooks", {})
        return cls(
            iterations=int(rest.get("iteration", -1)) + 1,
            train_seconds=hooks.get("Clock", {}).get("seconds"),
        )


def write_results(
    path: Path,
    cfg: CfgNode,
    progress: Progress,
    *,
    eval_seconds: float,
    metrics: Mapping[str, Mapping[str, Mapping[str, float]]],
    weights_sha256: str,
) -> None:
    """Write metrics (AP in points, 0 to 100) with their origin, as one JSON object, in one step.

    Args:
        path: the file.
        cfg: the config of the run.
        progress: of the model that was evaluated.
        eval_seconds: that the evaluation took.
        metrics: of each data set, by task.
        weights_sha256: :func:`maskrcnn_repro.utils.hashes.weights_digest` of that model.
    """
    inference = cfg.MODEL.INFERENCE.PRECISION
    results = {
        "metrics": replace_nan(metrics),
        "iterations": progress.iterations,
        "train_seconds": _round(progress.train_seconds),
        "eval_seconds": _round(eval_seconds),
        "seed": cfg.SEED,
        "trainer": cfg.TRAINER,
        "weights": cfg.MODEL.WEIGHTS,
        "weights_sha256": weights_sha256,
        "precision": {
            "training": training_precision(cfg),
            "evaluation": "float32" if inference == "auto" else inference,
        },
        "config_sha256": config_hash(cfg),
        "accepted_changes": list(cfg.ACCEPTED_CHANGES),
        "datasets": {key: [data_origin(n) for n in cfg.DATASETS[key]] for key in ("TRAIN", "TEST")},
        "code": code_origin(),
        "machine": machine(cfg.MODEL.DEVICE),
        "written": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    write_text(path, json.dumps(results, indent=2, allow_nan=False) + "\n")


def config_hash(cfg: Mapping[str, Any]) -> str:
    """Return the SHA-256 of all values except OUTPUT_DIR, which does not change numbers.

    It is that of the first version's spelling: a config of any version has the hash that it always had.

    Args:
        cfg: a config, or the values that its ``config.yaml`` holds.
    """
    plain = spelled_first(cfg) | {"OUTPUT_DIR": ""}
    # The C writer takes a tenth of the time, and a report hashes two configs a run.
    writer = _CWriter if _is_simple(plain) else yaml.SafeDumper
    return hashlib.sha256(yaml.dump(plain, Dumper=writer).encode()).hexdigest()


def _is_simple(value: Any) -> bool:
    """Tell whether both writers of PyYAML give the same text: they fold long texts and empty keys differently."""
    if isinstance(value, Mapping):
        return all(key and _is_simple(key) and _is_simple(item) for key, item in value.items())
    if isinstance(value, list):
        return all(map(_is_simple, value))
    return not isinstance(value, str) or bool(_SIMPLE.fullmatch(value))


def data_origin(name: str) -> dict[str, str | None]:
    """Return a data set's name, its JSON file and the file's SHA-256 (None if it has no file)."""
    metadata = MetadataCatalog.get(name)
    file = metadata.get("given_json_file", metadata.get("json_file"))
    there = file is not None and Path(file).is_file()
    return {"name": name, "json": file, "sha256": file_hash(file) if there else None}


@functools.cache
def file_hash(path: str) -> str:
    """Return the SHA-256 of a file, read once per process."""
    return sha256_of(Path(path))


def code_origin() -> dict[str, Any]:
    """Return the backend, the plug-ins, the versions, and the commit if this is a checkout."""
    return {
        "maskrcnn_repro": __version__,
        "commit": commit(CHECKOUT),
        "backend": asdict(BACKEND),
        "plugins": [asdict(plugin) for plugin in loaded_plugins()],
        "python": platform.python_version(),
        **{name: _version(name) for name in LIBRARIES},
    }


def commit(checkout: Path) -> str | None:
    """Return the commit of a checkout, with ``-dirty`` if files differ from it; None if it is none."""
    if not (
        checkout / ".git"
    ).exists():  # an installed copy may lie inside somebody else's checkout
        return None
    # All tags are excluded below: the text is the commit itself, whatever is tagged later.
    command = ["git", "-C", str(checkout), "describe", "--always", "--abbrev=40", "--dirty"]
    try:
        done = subprocess.run(
            [*command, "--exclude=*"], capture_output=True, text=True, check=True, timeout=30
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


def facts_of(code: Any, on: Any) -> dict[str, str]:
    """Return what made a result, for people, from ``code`` and ``machine`` of its ``results.json``.

    What is not there, or of no form that this project writes, is left out.
    """
    code, on = (value if isinstance(value, Mapping) else {} for value in (code, on))
    backend = code.get("backend")
    backend = backend if isinstance(backend, Mapping) else {}
    plugins = code.get("plugins")
    plugins = plugins if isinstance(plugins, list) else []
    versions = {k: v for k, v in code.items() if k not in _NO_VERSIONS and isinstance(v, str)}
    facts = {
        "Backend": " ".join(str(backend[k]) for k in ("name", "version") if backend.get(k)),
        "Machine": "; ".join(str(on[k]) for k in ("gpu", "cpu", "system") if on.get(k)),
        "Versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
        "Plug-ins": ", ".join(str(p.get("name")) for p in plugins if isinstance(p, Mapping)),
    }
    return {name: text for name, text in facts.items() if text}


def machine(device: str) -> dict[str, Any]:
    """Return what the run was computed on."""
    on_gpu = device.startswith("cuda")
    return {
        "device": device,
        "gpu": torch.cuda.get_device_name(device) if on_gpu else None,
        "cuda": torch.version.cuda if on_gpu else None,
        "cpu": cpu_name(),
        "threads": torch.get_num_threads(),
        "processes": comm.get_world_size(),
        "system": platform.platform(),
    }


def cpu_name() -> str:
    """Return the processor's marketing name, or its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _round(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 2)


def replace_nan(value: Any) -> Any:
    """Replace NaN, which JSON lacks, by None; None stays."""
    if isinstance(value, Mapping):
        return {key: replace_nan(entry) for key, entry in value.items()}
    return value if value is not None and math.isfinite(value) else None
