"""The wheel: what is in it, and that it works beside the dependencies alone, far from any checkout.

It is built from the sdist, as for an index, installed without network into an environment of its own,
and run there with the embedded Detectron2, whichever one this suite runs on.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import maskrcnn_repro
from maskrcnn_repro.tables.paper.numbers import tables

import cv2
import pytest

from tests.helpers.paths import ROOT
from tests.helpers.tiny_coco import command_line, write_tiny_coco

pytestmark = pytest.mark.slow


# Where a file of the checkout lies in the wheel.
PLACES = {
    "projects/maskrcnn_cli": "maskrcnn_cli",
    "projects/maskrcnn_repro": "maskrcnn_repro",
    "projects/maskrcnn_family": "maskrcnn_family",
    "compat/detectron2": "maskrcnn_repro/_embedded/detectron2",
    "configs": "maskrcnn_repro/configs",
}
# Not those that .pth files of editable installs add: this checkout may be one of them.
SITE_PACKAGES = [p for p in sys.path if Path(p).name in ("site-packages", "dist-packages")]
IS_DETECTRON2_THERE = any((Path(p) / "detectron2").is_dir() for p in SITE_PACKAGES)


def run(*command, cwd, **environment):
    inherited = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}
    ours = {"PYTHONNOUSERSITE": "1", "MASKRCNN_REPRO_BACKEND": "embedded"}
    done = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env={**inherited, **ours, **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def succeed(*command, cwd, **environment):
    status, output, errors = run(*command, cwd=cwd, **environment)
    assert status == 0, errors or output
    return output


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dist")
    build = (sys.executable, "-m", "hatchling", "build", "-d", folder)
    succeed(*build, "-t", "sdist", cwd=ROOT)
    with tarfile.open(next(folder.glob("*.tar.gz"))) as sdist:
        sdist.extractall(folder, filter="data")
    succeed(*build, "-t", "wheel", cwd=next(p for p in folder.iterdir() if p.is_dir()))
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory):
    """Return the folders of an environment's programs and packages: the wheel and the present ones."""
    folder = tmp_path_factory.mktemp("environment")
    succeed(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder)
    programs = folder / ("Scripts" if os.name == "nt" else "bin")
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = Path(succeed(programs / "python", "-c", ask, cwd=folder).strip())
    pip = (sys.executable, "-m", "pip", "--python", programs / "python")
    succeed(*pip, "install", "--no-index", "--no-deps", "--no-compile", wheel, cwd=folder)
    (packages / "present.pth").write_text("\n".join(SITE_PACKAGES))
    return programs, packages


def test_the_wheel_holds_the_package_the_embedded_detectron2_and_the_configs_alone(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    about = f"maskrcnn_repro-{maskrcnn_repro.__version__}.dist-info"
    metadata = {name for name in names if name.startswith(f"{about}/")}
    assert {f"{about}/licenses/LICENSE", f"{about}/licenses/NOTICE"} <= metadata
    assert names - metadata == {
        f"{place}/{path.relative_to(ROOT / source).as_posix()}"
        for source, place in PLACES.items()
        for path in (ROOT / source).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    package = "maskrcnn_repro"
    embedded = f"{package}/_embedded/detectron2"
    assert {
        f"{package}/py.typed",
        f"{package}/configs/mini/mask_rcnn_fpn.yaml",
        f"{package}/configs/coco/r50_c4.yaml",
        f"{package}/configs/mini/level/c4.yaml",
        f"{package}/old_names.yaml",
        f"{package}/tables/paper/data/paper.yaml",
        f"{package}/tables/paper/data/experiments.yaml",
        f"{package}/tables/paper/data/claims.yaml",
        f"{embedded}/__init__.py",
        f"{embedded}/_real_names.txt",
        f"{embedded}/config/defaults.yaml",
        f"{embedded}/data/datasets/coco.json",
    } <= names


@pytest.mark.skipif(IS_DETECTRON2_THERE, reason="an installed Detectron2 answers this import")
def test_the_wheel_installs_no_detectron2(environment, tmp_path):
    programs, _ = environment
    status, _, errors = run(programs / "python", "-c", "import detectron2", cwd=tmp_path)
    assert status == 1
    assert errors.endswith("ModuleNotFoundError: No module named 'detectron2'\n")


def test_the_package_brings_its_own_detectron2(environment, tmp_path):
    programs, packages = environment
    code = "import maskrcnn_repro, detectron2.modeling; print(detectron2.__file__)"
    path = succeed(programs / "python", "-c", code, cwd=tmp_path).strip()
    assert Path(path) == packages / "maskrcnn_repro/_embedded/detectron2/__init__.py"


def test_the_command_trains_evaluates_and_draws(environment, tmp_path):
    programs, packages = environment
    data = write_tiny_coco(tmp_path / "data")
    arguments = command_line(data, "run", opts=("TEST.SHEET_IMAGES", "1"))
    arguments[arguments.index("--config-file") + 1] = "mini/mask_rcnn_fpn.yaml"
    printed = succeed(programs / "maskrcnn", "train", *arguments, cwd=tmp_path)
    assert printed.splitlines()[-1].endswith(str(Path("run") / "predictions.png"))
    results = json.loads((tmp_path / "run/results.json").read_text())
    assert results["iterations"] == 2
    assert set(results["metrics"]["tiny"]) == {"bbox", "segm"}
    backend = results["code"]["backend"]
    assert backend["name"] == "embedded"
    assert Path(backend["location"]) == packages / "maskrcnn_repro/_embedded/detectron2"
    assert results["code"]["commit"] is None
    assert cv2.imread(str(tmp_path / "run/predictions.png")).std() > 10


def test_the_commands_of_tables_and_experiments_know_what_there_is(environment, tmp_path):
    programs, _ = environment
    command = programs / "maskrcnn"
    assert succeed(command, "--version", cwd=tmp_path) == f"maskrcnn {maskrcnn_repro.__version__}\n"
    listed = succeed(command, "list", cwd=tmp_path)
    assert all(re.search(rf"^ *{table}\b", listed, re.MULTILINE) for table in tables()), listed
    assert succeed(programs / "python", "-m", "maskrcnn_cli", "table", cwd=tmp_path) == listed
    assert "r50_c4_roipool" in succeed(command, "table", "2c", "--plan", cwd=tmp_path)
    status, _, errors = run(command, "tabel", cwd=tmp_path)
    assert status == 2
    assert "Did you mean 'table'?" in errors


@pytest.mark.parametrize("name", ["train", "table", "experiment"])
def test_the_former_commands_say_their_new_name(environment, tmp_path, name):
    programs, _ = environment
    status, printed, errors = run(programs / f"maskrcnn-{name}", "--help", cwd=tmp_path)
    assert status == 0
    assert f"usage: maskrcnn-{name}" in printed
    assert errors == (
        f"maskrcnn-{name} is called maskrcnn {name} now; the old name goes with the next release.\n"
    )


def test_an_installed_plugin_needs_no_word(environment, tmp_path):
    """The example, copied away from the checkout and built: its own test, then its config."""
    programs, _ = environment
    source, place = tmp_path / "boundary_plugin", tmp_path / "installed"
    shutil.copytree(ROOT / "examples/boundary_plugin", source)
    pip = (
        sys.executable,
        "-m",
        "pip",
        "install",
        "--no-index",
        "--no-deps",
        "--no-build-isolation",
    )
    succeed(*pip, "--target", place, source, cwd=tmp_path)
    shutil.rmtree(source / "boundary_plugin")
    path = {"PYTHONPATH": str(place)}
    passed = succeed(programs / "python", "-m", "pytest", "-q", "tests", cwd=source, **path)
    assert re.search(r"\d passed", passed)
    arguments = command_line(
        write_tiny_coco(tmp_path / "data"), "run", opts=["DATASETS.TEST", "()"]
    )
    arguments[arguments.index("--config-file") + 1] = "boundary.yaml"
    words = ("train", *arguments, "SOLVER.MAX_ITER", "20")
    succeed(programs / "maskrcnn", *words, cwd=source, **path)
    log = (source / "run/log.txt").read_text()
    assert "Plug-in 'boundary_plugin' (installed, boundary-plugin 0.1)" in log
    assert (source / "run/model_final.pth").is_file()


def test_the_table_commands_plan_and_run_without_a_checkout(environment, tmp_path):
    programs, packages = environment
    printed = succeed(programs / "maskrcnn", "table", "2c", "--plan", cwd=tmp_path)
    configs = packages / "maskrcnn_repro/configs"
    assert f" maskrcnn train --config-file {configs / 'rpn/r50_c4.yaml'}" in printed
    assert " maskrcnn proposals --config-file" in printed
    json_file, images = write_tiny_coco(tmp_path / "data")
    overrides = {
        "DATASETS.CUSTOM": [["tiny", str(json_file), str(images)]],
        "DATASETS.TRAIN": ("tiny",),
        "DATASETS.TEST": ("tiny",),
        "MODEL.ROI_HEADS.NUM_CLASSES": 2,
        "SOLVER.MAX_ITER": 1,
        "TEST.SHEET_IMAGES": 0,
    }
    pairs = [str(word) for pair in overrides.items() for word in pair]
    words = ("experiment", "rpn_r50_c4", *pairs)
    printed = succeed(programs / "maskrcnn", *words, cwd=tmp_path)
    assert "1 stage, 1 to run" in printed
    (results,) = tmp_path.glob("output/mini-trial-*/rpn_r50_c4/seed1/results.json")
    assert printed.splitlines()[-1] == f"Results: {results.relative_to(tmp_path)}"
