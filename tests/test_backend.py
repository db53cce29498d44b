"""Which Detectron2 answers, in processes of their own: a choice is made once per process.

``python -S`` starts without site-packages, hence without an installed Detectron2 whatever this suite runs
on. The backend module is loaded apart from the package, whose import takes seconds.
"""

import os
import subprocess
import sys
from pathlib import Path

import maskrcnn_repro

import pytest

PROJECTS = Path(maskrcnn_repro.__file__).resolve().parents[1]
EMBEDDED = PROJECTS.parent / "compat"

CHOOSE = f"""
import sys, types
for name in ("maskrcnn_repro", "maskrcnn_cli"):
    package = types.ModuleType(name)
    package.__path__ = [{str(PROJECTS)!r} + "/" + name]
    sys.modules[name] = package
# Stand-ins for what the embedded package imports at once: not there without site-packages.
sys.modules["detectron2.utils.env"] = types.SimpleNamespace(setup_environment=lambda: None)
from maskrcnn_repro import _backend
try:
    backend = _backend.activate()
except _backend.BackendError as error:
    sys.exit("BackendError: " + str(error))
"""
SHOW = "print(backend.name, backend.version, backend.location, sep='|')"


def run(command, environment, cwd):
    return subprocess.run(
        command, env=environment, cwd=cwd, capture_output=True, text=True, timeout=300, check=False
    )


def python(code, *path, forced=None, cwd=None):
    environment = {k: v for k, v in os.environ.items() if k != "MASKRCNN_REPRO_BACKEND"}
    environment["PYTHONPATH"] = os.pathsep.join(map(str, path))
    if forced is not None:
        environment["MASKRCNN_REPRO_BACKEND"] = forced
    return run([sys.executable, "-S", "-c", code], environment, cwd)


def chosen(*path, code=CHOOSE + SHOW, **options):
    done = python(code, *path, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().split("|")


def refusal(*path, **options):
    done = python(CHOOSE + SHOW, *path, **options)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    return done.stderr.strip()


@pytest.fixture
def installed(tmp_path):
    """A folder of site-packages with a Detectron2 of version 9.9."""
    package = tmp_path / "site" / "detectron2"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("__version__ = '9.9'\n")
    return package.parent


def test_none_installed_the_embedded_one_answers(tmp_path):
    assert chosen(cwd=tmp_path) == ["embedded", "0.6+embedded", str(EMBEDDED / "detectron2")]


@pytest.mark.parametrize("forced", ["", "auto", "installed", None])
def test_an_installed_one_wins(installed, tmp_path, forced):
    backend = chosen(installed, cwd=tmp_path, forced=forced)
    assert backend == ["installed", "9.9", str(installed / "detectron2")]


def test_an_installed_one_wins_though_the_embedded_path_is_set_before_it(installed, tmp_path):
    # A child inherits the parent's path, and may choose again.
    code = CHOOSE.replace(
        "import sys, types", "import sys, types; sys.path.append(sys.path.pop(1))", 1
    )
    assert chosen(EMBEDDED, installed, cwd=tmp_path, code=code + SHOW)[0] == "installed"


def test_the_embedded_one_can_be_forced(installed, tmp_path):
    assert chosen(installed, cwd=tmp_path, forced="embedded")[0] == "embedded"


def test_a_folder_of_that_name_is_no_installation(tmp_path):
    (tmp_path / "detectron2" / "configs").mkdir(parents=True)
    assert chosen(tmp_path, cwd=tmp_path)[0] == "embedded"


def test_forcing_a_missing_one_is_refused(tmp_path):
    message = refusal(cwd=tmp_path, forced="installed")
    assert message.startswith("BackendError: MASKRCNN_REPRO_BACKEND=installed, but this Python")


def test_a_wrong_value_is_refused(tmp_path):
    message = refusal(cwd=tmp_path, forced="embeded")
    assert message.startswith("BackendError: MASKRCNN_REPRO_BACKEND='embeded' is not one of auto")
    assert message.endswith("Did you mean 'embedded'?")


def test_a_broken_installation_shows_its_own_error(installed, tmp_path):
    (installed / "detectron2" / "__init__.py").write_text("import nonexistent_cuda_library\n")
    done = python(CHOOSE + SHOW, installed, cwd=tmp_path)
    assert done.returncode == 1
    assert "ModuleNotFoundError: No module named 'nonexistent_cuda_library'" in done.stderr


def test_another_one_imported_before_is_refused_when_forced(installed, tmp_path):
    code = "import detectron2\n" + CHOOSE + SHOW
    assert chosen(installed, cwd=tmp_path, code=code)[0] == "installed"
    done = python(code, installed, cwd=tmp_path, forced="embedded")
    assert "import maskrcnn_repro before detectron2" in done.stderr


def test_choosing_twice_adds_the_path_once(tmp_path):
    code = CHOOSE + f"_backend.activate(); print(sys.path.count({str(EMBEDDED)!r}))"
    assert chosen(cwd=tmp_path, code=code) == ["1"]


WORKER = """
import sys
import maskrcnn_repro
import torch

class Told(torch.utils.data.Dataset):
    def __len__(self):
        return 1
    def __getitem__(self, index):
        import detectron2
        from detectron2.structures import Boxes
        return detectron2.__version__

def rank(index):
    import detectron2
    print(detectron2.__version__, flush=True)

if __name__ == "__main__":
    for method in ("spawn", "forkserver"):
        loader = torch.utils.data.DataLoader(Told(), num_workers=1, multiprocessing_context=method)
        print(next(iter(loader))[0], flush=True)
    torch.multiprocessing.spawn(rank, nprocs=1)
"""


@pytest.mark.slow
@pytest.mark.parametrize("forced", ["auto", "embedded"])
def test_workers_of_every_kind_see_the_same_one(tmp_path, forced):
    script = tmp_path / "script.py"
    script.write_text(WORKER)
    environment = {**os.environ, "PYTHONPATH": str(PROJECTS), "MASKRCNN_REPRO_BACKEND": forced}
    done = run([sys.executable, str(script)], environment, tmp_path)
    assert done.returncode == 0, done.stderr
    versions = set(done.stdout.split())
    assert len(done.stdout.split()) == 3
    expected = "0.6+embedded" if forced == "embedded" else maskrcnn_repro.BACKEND.version
    assert versions == {expected}


def test_backend_is_known():
    assert maskrcnn_repro.BACKEND.name in ("installed", "embedded")
