"""Python, the required packages, PyTorch with torchvision, the GPU, and the Detectron2 in use."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator
from importlib import metadata

from maskrcnn_cli.doctor.finding import Finding
from maskrcnn_cli.doctor.probe import ProbeError, ask

NAME = "maskrcnn-repro"
OLDEST_PYTHON = (3, 11)
EXTRAS = {
    "export": ("onnx", "onnxscript", "onnxruntime", "openvino"),
    "web": ("fastapi", "uvicorn", "python-multipart"),
    "supervision": ("supervision",),
    "slurm": ("submitit",),
    "ray": ("ray",),
    "mlflow": ("mlflow-skinny", "sqlalchemy", "alembic"),
    "wandb": ("wandb",),
    "notebook": ("nbformat", "nbclient", "ipykernel"),
}
"""Extra of pyproject.toml -> the packages that it brings."""
INSTALL_PAIR = "install the pair anew: pip install --force-reinstall torch torchvision"

TORCH = """
import json, torch
gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
print(json.dumps({"version": torch.__version__, "cuda": torch.version.cuda, "gpus": gpus,
                  "threads": torch.get_num_threads(), "mkldnn": torch.backends.mkldnn.is_available()}))
"""
PAIR = """
import json, torch, torchvision
boxes = torch.tensor([[0., 0., 10., 10.], [1., 1., 10., 10.], [20., 20., 30., 30.]])
kept = torchvision.ops.nms(boxes, torch.tensor([0.9, 0.8, 0.7]), 0.5).tolist()
print(json.dumps({"version": torchvision.__version__, "kept": kept}))
"""
GPU = """
import json, torch
product = torch.ones(64, 64, device="cuda") @ torch.ones(64, 64, device="cuda")
print(json.dumps({"right": bool((product == 64).all().item())}))
"""
BACKEND = """
import json, maskrcnn_repro
from maskrcnn_repro._backend import BACKEND
print(json.dumps({"text": str(BACKEND), "location": BACKEND.location}))
"""


def library_findings() -> Iterator[Finding]:
    """Yield what there is to say of Python and its packages."""
    yield python_finding(sys.version_info[:3], sys.maxsize > 2**32)
    yield from package_findings()
    torch_works = False
    try:
        torch = ask(TORCH)
    except ProbeError as error:
        yield Finding(
            "error", "torch", f"cannot be imported: {error}", error.remedy or INSTALL_PAIR
        )
    else:
        torch_works = True
        yield Finding("fine", "torch", f"{torch['version']}, {torch['threads']} threads")
        yield pair_finding()
        yield gpu_finding(torch["cuda"], torch["gpus"], bool(shutil.which("nvidia-smi")))
    if torch_works:
        yield backend_finding()
    yield extras_finding()


def python_finding(version: tuple[int, int, int], wide: bool) -> Finding:
    """Judge a Python by its version and by whether its addresses have 64 bits."""
    text = ".".join(map(str, version))
    if version[:2] < OLDEST_PYTHON:
        return Finding("error", "Python", text, "install Python 3.11 or later")
    if not wide:
        return Finding("error", "Python", f"{text}, 32-bit", "install a 64-bit Python")
    return Finding("fine", "Python", f"{text} at {sys.executable}")


def package_findings() -> Iterator[Finding]:
    """Yield what is missing or too old among the packages that this one requires."""
    try:
        required = [line for line in metadata.requires(NAME) or () if "extra ==" not in line]
    except metadata.PackageNotFoundError:
        yield Finding(
            "warning",
            "packages",
            f"{NAME} is not installed in this Python, only its folder is on the path",
            "pip install -e . in the checkout: it brings what is needed",
        )
        return
    troubles = [trouble for line in required if (trouble := trouble_of(line))]
    if troubles:
        yield Finding("error", "packages", "; ".join(troubles), f"pip install --upgrade {NAME}")
    else:
        yield Finding("fine", "packages", f"all {len(required)} that are required")
    if version_of("opencv-python") and version_of("opencv-python-headless"):
        yield Finding(
            "warning",
            "OpenCV",
            "opencv-python and opencv-python-headless write over each other",
            "pip uninstall opencv-python opencv-python-headless; pip install opencv-python-headless",
        )


def trouble_of(requirement: str) -> str:
    """Return what is wrong with a requirement such as ``"torch>=2.6"``; empty if it is met."""
    match = re.match(r"(?P<name>[\w.-]+)[^>;]*(>=(?P<least>[\w.]+))?", requirement)
    if match is None:
        return ""
    name, least = match["name"], match["least"]
    installed = version_of(name)
    if installed is None:
        return f"{name} is missing"
    if least and numbers(installed) < numbers(least):
        return f"{name} {installed} is older than {least}"
    return ""


def version_of(name: str) -> str | None:
    """Return the version of an installed package, or None."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def numbers(version: str) -> list[int]:
    """Return the release numbers of a version: ``[2, 14, 1]`` of ``"2.14.1+cpu"``, ``[0, 1, 5]`` of ``"0.1.5.post1"``."""
    match = re.match(r"\d+(\.\d+)*", version)
    return [int(number) for number in match[0].split(".")] if match else []


def pair_finding() -> Finding:
    """Judge torchvision by an operation of its compiled part, which belongs to a single torch."""
    try:
        answer = ask(PAIR)
    except ProbeError as error:
        return Finding(
            "error", "torchvision", f"does not fit torch: {error}", error.remedy or INSTALL_PAIR
        )
    if answer["kept"] != [0, 2]:
        return Finding(
            "error",
            "torchvision",
            f"its nms keeps boxes {answer['kept']}, not [0, 2]",
            INSTALL_PAIR,
        )
    return Finding("fine", "torchvision", f"{answer['version']}, fits torch")


def gpu_finding(cuda: str | None, gpus: list[str], driver: bool) -> Finding:
    """Judge the GPUs.

    Args:
        cuda: that torch was built for, or None.
        gpus: names of those that torch sees.
        driver: whether NVIDIA's ``nvidia-smi`` is on the path.
    """
    if gpus:
        try:
            right = ask(GPU)["right"]
        except ProbeError as error:
            remedy = "torch may be built for other GPUs than this: see pytorch.org/get-started"
            return Finding(
                "error",
                "GPU",
                f"{', '.join(gpus)}: a product fails: {error}",
                error.remedy or remedy,
            )
        if right:
            return Finding("fine", "GPU", f"{len(gpus)}: {', '.join(gpus)}; CUDA {cuda}")
        return Finding("error", "GPU", f"{gpus[0]} multiplies wrongly", "test or change the GPU")
    if not driver:
        return Finding("note", "GPU", "none: everything runs on the CPU")
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if hidden is not None:
        return Finding(
            "warning",
            "GPU",
            f"CUDA_VISIBLE_DEVICES={hidden!r} hides all",
            "unset CUDA_VISIBLE_DEVICES",
        )
    if cuda is None:
        remedy = "install a torch with CUDA: see pytorch.org/get-started"
        return Finding(
            "warning", "GPU", "there is a driver, but torch is built without CUDA", remedy
        )
    remedy = f"run nvidia-smi; its driver must support CUDA {cuda}"
    return Finding("warning", "GPU", "there is a driver, but torch sees no GPU", remedy)


def backend_finding() -> Finding:
    """Judge the choice of the Detectron2 in use."""
    try:
        answer = ask(BACKEND)
    except ProbeError as error:
        remedy = "MASKRCNN_REPRO_BACKEND=embedded uses the subset that comes with this package"
        return Finding(
            "error", "backend", str(error).rpartition("Error: ")[2], error.remedy or remedy
        )
    return Finding("fine", "backend", f"{answer['text']} at {answer['location']}")


def extras_finding() -> Finding:
    """Say which extras are installed whole."""
    there = [extra for extra, names in EXTRAS.items() if all(map(version_of, names))]
    others = [extra for extra in EXTRAS if extra not in there]
    text = f"{', '.join(there) or 'none'}; not installed: {', '.join(others) or 'none'}"
    remedy = f"pip install '{NAME}[{others[0]}]' brings one" if others else ""
    return Finding("note" if others else "fine", "extras", text, remedy)
