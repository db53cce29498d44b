"""What ``maskrcnn doctor`` says of machines in good and in bad order."""

import json
import os
import re
import signal
import tomllib

from maskrcnn_cli import doctor
from maskrcnn_cli.dispatch import main
from maskrcnn_cli.doctor import libraries, machine
from maskrcnn_cli.doctor.finding import Finding
from maskrcnn_cli.doctor.probe import LateError, ProbeError, ask

import pytest

from tests.helpers.paths import ROOT

GIB = 2**30


def broken(*texts):
    """A stand-in for ``ask`` that answers with dicts and raises texts, in their order."""
    answers = iter(texts)

    def answer(code):
        value = next(answers)
        if isinstance(value, str):
            raise ProbeError(value)
        return value

    return answer


@pytest.mark.parametrize(
    ("finding", "level", "word"),
    [
        (libraries.python_finding((3, 11, 0), True), "fine", "3.11.0"),
        (libraries.python_finding((3, 10, 9), True), "error", "3.11 or later"),
        (libraries.python_finding((3, 12, 1), False), "error", "64-bit"),
        (machine.processor_finding(8, None, None), "fine", "8 processors"),
        (machine.processor_finding(8, 2.5, None), "warning", "OMP_NUM_THREADS=2"),
        (machine.processor_finding(8, 2.5, "2"), "fine", "OMP_NUM_THREADS=2"),
        (machine.memory_finding(8 * GIB), "fine", "8.0 GiB"),
        (machine.memory_finding(GIB), "warning", "1.0 GiB"),
        (machine.memory_finding(None), "note", "unknown"),
        (machine.shared_memory_finding(64 * 2**20), "warning", "NUM_WORKERS 0"),
        (machine.shared_memory_finding(2 * GIB), "fine", "2.00 GiB"),
        (libraries.gpu_finding(None, [], False), "note", "CPU"),
        (libraries.gpu_finding(None, [], True), "warning", "without CUDA"),
        (libraries.gpu_finding("13.0", [], True), "warning", "sees no GPU"),
    ],
)
def test_levels(finding, level, word):
    assert finding.level == level
    assert word in f"{finding.says} {finding.remedy}"


@pytest.mark.parametrize(
    ("requirement", "trouble"),
    [
        ("numpy>=1.26", ""),
        ("numpy>=99.1", "is older than 99.1"),
        ("numpy", ""),
        ("no-such-package>=1", "no-such-package is missing"),
    ],
)
def test_requirements(requirement, trouble):
    assert trouble in libraries.trouble_of(requirement)
    assert bool(trouble) == bool(libraries.trouble_of(requirement))


@pytest.mark.parametrize(
    ("version", "numbers"),
    [("2.14.1+cpu", [2, 14, 1]), ("0.1.5.post2022", [0, 1, 5]), ("1.27", [1, 27])],
)
def test_release_numbers(version, numbers):
    assert libraries.numbers(version) == numbers


def test_hidden_gpus_are_named(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert "unset CUDA_VISIBLE_DEVICES" in libraries.gpu_finding("13.0", [], True).remedy


def test_a_gpu_that_fails_or_is_wrong_is_an_error(monkeypatch):
    monkeypatch.setattr(libraries, "ask", broken("no kernel image", {"right": False}))
    assert "no kernel image" in libraries.gpu_finding("13.0", ["H1"], True).says
    assert libraries.gpu_finding("13.0", ["H1"], True).level == "error"


def test_a_torch_that_cannot_be_imported_is_an_error_and_ends_the_questions(monkeypatch):
    monkeypatch.setattr(libraries, "ask", broken("ImportError: libcudart.so.13"))
    findings = {finding.subject: finding for finding in libraries.library_findings()}
    assert findings["torch"].level == "error"
    assert "libcudart" in findings["torch"].says
    assert not {"torchvision", "backend"} & set(findings)


def test_a_torchvision_of_another_torch_is_an_error(monkeypatch):
    monkeypatch.setattr(
        libraries, "ask", broken("RuntimeError: operator torchvision::nms does not exist")
    )
    finding = libraries.pair_finding()
    assert finding.level == "error"
    assert "force-reinstall" in finding.remedy


def test_a_backend_that_cannot_be_used_is_an_error(monkeypatch):
    monkeypatch.setattr(
        libraries, "ask", broken("maskrcnn_repro.errors.BackendError: no Detectron2 here")
    )
    assert libraries.backend_finding().says == "no Detectron2 here"


def test_the_extras_are_those_of_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    brought = {
        name: {re.match(r"[\w.-]+", line)[0] for line in extras[name]} for name in libraries.EXTRAS
    }
    assert brought == {name: set(packages) for name, packages in libraries.EXTRAS.items()}
    assert extras.keys() - brought.keys() == {"test", "dev", "docs"}


def test_an_extra_of_which_a_part_is_missing_is_not_installed(monkeypatch):
    there = {"mlflow-skinny": "3.1"}
    monkeypatch.setattr(libraries, "version_of", there.get)
    assert libraries.extras_finding().says.startswith("none; not installed: ")


def test_a_busy_machine_is_no_reason_to_install_anew(monkeypatch):
    def late(code):
        raise LateError("no answer within 120 seconds")

    monkeypatch.setattr(libraries, "ask", late)
    late_findings = [
        next(f for f in libraries.library_findings() if f.subject == "torch"),
        libraries.pair_finding(),
        libraries.gpu_finding("13.0", ["GPU"], True),
        libraries.backend_finding(),
    ]
    assert {f.remedy for f in late_findings} == {"try again when the machine is less busy"}


def test_a_probe_answers():
    assert ask("import json; print('noise'); print(json.dumps({'a': 1}))") == {"a": 1}


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("raise ValueError('of no use')", "ValueError: of no use"),
        ("print(1)", "unexpected answer"),
        ("pass", "unexpected answer"),
        (f"import os; os.kill(os.getpid(), {int(signal.SIGTERM)})", "ended by SIGTERM"),
        ("import time; time.sleep(60)", "no answer within 0.5 seconds"),
    ],
)
def test_a_probe_that_fails_says_why(code, message):
    with pytest.raises(ProbeError, match=message):
        ask(code, seconds=0.5 if "sleep" in code else 30)


def test_folders(tmp_path):
    assert machine.folder_finding("output", tmp_path / "new" / "run").level == "fine"
    (tmp_path / "file").write_text("")
    assert "is no folder" in machine.folder_finding("output", tmp_path / "file").says
    assert machine.data_finding(tmp_path / "nothing").level == "error"
    assert machine.data_finding(tmp_path).level == "note"
    for name in machine.COCO:
        (tmp_path / "coco" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "coco" / name).write_text("{}")
    assert machine.data_finding(tmp_path).level == "fine"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_is_an_error(tmp_path):
    tmp_path.chmod(0o500)
    assert machine.folder_finding("output", tmp_path).level == "error"


@pytest.mark.parametrize(
    ("level", "words", "status"),
    [
        ("fine", [], 0),
        ("warning", [], 0),
        ("warning", ["--strict"], 1),
        ("error", [], 1),
        ("note", ["--strict"], 0),
    ],
)
def test_status_and_json(monkeypatch, capsys, level, words, status):
    monkeypatch.setattr(doctor, "library_findings", lambda: [Finding(level, "a", "b", "c")])
    monkeypatch.setattr(doctor, "machine_findings", lambda *_: [Finding("fine", "d", "e")])
    assert main(["doctor", *words, "--json"]) == status
    report = json.loads(capsys.readouterr().out)
    assert report["findings"][0] == {"level": level, "subject": "a", "says": "b", "remedy": "c"}
    assert main(["doctor", *words]) == status
    assert "a              b" in capsys.readouterr().out


@pytest.mark.slow
def test_this_machine_is_in_order(capsys):
    assert main(["doctor"]) == 0
    assert "fits torch" in capsys.readouterr().out
