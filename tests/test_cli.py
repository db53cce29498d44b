"""The command ``maskrcnn``: what it needs, what its help says, and one sentence for what it refuses."""

import argparse
import io
import os
import re
import subprocess
import sys

from maskrcnn_cli import former
from maskrcnn_cli.benchmarks import ROI_PARTS
from maskrcnn_cli.dispatch import COMMANDS, GROUPS, main, run_command
from maskrcnn_cli.listing import lines
from maskrcnn_cli.output import run_guarded
from maskrcnn_cli.parsing import UsageError
from maskrcnn_cli.tables import LEVELS
from maskrcnn_cli.training import TRAIN
from maskrcnn_repro import __version__
from maskrcnn_repro.benchmark.roi_ops import PARTS
from maskrcnn_repro.commands.benchmark import BENCHMARKS
from maskrcnn_repro.config import configs_folder
from maskrcnn_repro.tables.paper import experiments
from maskrcnn_repro.tables.paper.numbers import tables

import pytest
from detectron2.engine import default_argument_parser

from tests.helpers.paths import ROOT

LIGHT = [
    ["--help"],
    ["--version"],
    *([name, "--help"] for name in COMMANDS),
    ["list"],
    ["list", "2c"],
    ["table"],
    ["tabel"],
    ["train", "--num-gpus", "two"],
    ["train", "SEED", "3", "--resume"],
    ["table", "--plan"],
    ["list", "2z"],
]
"""Command lines that are answered without a model."""


def run(*words, **environment):
    return subprocess.run(
        [sys.executable, *map(str, words)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "projects"), **environment},
        check=False,
    )


def test_help_errors_and_lists_load_neither_torch_nor_detectron2_nor_numpy():
    code = f"""
import contextlib, sys
from maskrcnn_cli import main
for words in {LIGHT!r}:
    with contextlib.suppress(SystemExit):
        main(words)
    heavy = {{"torch", "detectron2", "numpy", "maskrcnn_repro"}} & set(sys.modules)
    assert not heavy, (words, heavy)
"""
    done = run("-c", code)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("words", [["-m", "maskrcnn_cli"], [ROOT / "train_net.py"]])
def test_help_takes_less_than_a_second_of_a_processor(words):
    resource = pytest.importorskip("resource", reason="only Unix counts a child's time")

    def spent():
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    before = spent()
    assert run(*words, "--help").returncode == 0
    assert spent() - before < 1


def test_the_options_are_a_superset_of_detectron2s():
    theirs, ours = default_argument_parser(), TRAIN.parser()
    meaning = ("option_strings", "nargs", "const", "type", "required", "choices")
    own = {action.dest: action for action in ours._actions}
    for action in theirs._actions:
        assert type(own[action.dest]) is type(action)
        for name in meaning:
            assert getattr(own[action.dest], name) == getattr(action, name), (action.dest, name)
        if action.dest != "dist_url":  # one port per user there, a free port here
            assert own[action.dest].default == action.default


@pytest.mark.parametrize("name", COMMANDS)
def test_every_subcommand_has_help_with_examples_of_itself(name, capsys):
    with pytest.raises(SystemExit) as caught:
        main([name, "--help"])
    assert caught.value.code == 0
    printed = capsys.readouterr().out
    assert printed.count(f"maskrcnn {name}") >= 2  # the usage, and an example
    for config in re.findall(r"--config-file (\S+)", printed.partition("examples:")[2]):
        assert (ROOT / "configs" / config).is_file()


def test_the_help_groups_all_subcommands_with_an_example_each(capsys):
    assert main(["--help"]) == 0
    printed = capsys.readouterr().out
    assert [line[:-1] for line in printed.splitlines() if re.fullmatch(r"\w.*:", line)] == [
        *GROUPS,
        "options",
    ]
    for command in COMMANDS.values():
        assert f"maskrcnn {command.name} {command.example}\n" in printed
    assert main([]) == 0
    assert capsys.readouterr().out == printed


@pytest.mark.parametrize("name", COMMANDS)
def test_the_example_of_the_help_can_be_parsed(name):
    command = COMMANDS[name]
    assert isinstance(command.arguments(command.example.split()), argparse.Namespace)


def test_the_version_is_the_packages(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"maskrcnn {__version__}\n"


def test_eval_is_train_with_eval_only():
    words = ["--config-file", "a.yaml", "MODEL.WEIGHTS", "b.pth"]
    alone, both = COMMANDS["eval"].arguments(words), TRAIN.arguments(["--eval-only", *words])
    of_clusters = {"on": "local", "slurm": "", "ray": "", "words": ["--eval-only", *words]}
    assert {**vars(alone), **of_clusters} == vars(both)


def test_the_list_names_all_tables_rows_and_experiments():
    printed = list(lines([]))
    words = {word for line in printed for word in line.split()}
    for table in tables().values():
        assert f"{table.id}: {table.title} ({table.split})" in printed
        assert set(table.rows) <= words
    assert set(experiments.experiments()) <= words


def test_the_list_of_a_table_says_what_each_row_runs():
    printed = [re.split(r"  +", line.strip()) for line in lines(["2d", "8"])]
    assert printed[1] == ["T2d.pool", "RoIPool", "r50_c5_roipool"]
    assert printed[3] == ["T2d.gap", "gap as printed", "difference of two rows"]
    row = next(row for row in printed if row[0] == "T8.3")
    assert row[2].startswith("cannot be run: ResNeXt-101 weights")


def test_what_parsers_offer_is_what_there_is():
    folders = {path.parent.name for path in configs_folder().glob("*/level")}
    assert {*folders, "paper"} == set(LEVELS)
    assert set(ROI_PARTS) == set(PARTS)
    for name in BENCHMARKS:
        assert COMMANDS["benchmark"].arguments([name]).benchmark == name


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["tabel"], "Subcommand 'tabel' does not exist. Did you mean 'table'?"),
        (["xyz"], "Subcommand 'xyz' does not exist. There are train, eval"),
        (["list", "2f"], "Table '2f' does not exist. Did you mean '2"),
        (["train", "--num-gpus", "two"], "invalid int value: 'two' (see maskrcnn train --help)."),
        (["train", "--nothing"], "unrecognized arguments: --nothing"),
        (["eval", "SEED", "3", "--resume"], "--resume must stand before the first KEY VALUE pair"),
        (["join-weights", "a.pth"], "required: DETECTOR, OUT (see maskrcnn join-weights --help)."),
        (["benchmark"], "required: BENCHMARK"),
        (["benchmark", "speed"], "invalid choice: 'speed'"),
        (["table", "2c", "--seeds", "0"], "'0' is no number from 1 upwards"),
        (["--verson"], "Option '--verson' does not exist. Did you mean '--version'?"),
        (["Train"], "Did you mean 'train'?"),
        (["list", "2C"], "Table '2C' does not exist. Did you mean '2c'?"),
        (["list", "all", "2C"], "Table '2C' does not exist. Did you mean '2c'?"),
        (["train", "--rezume"], "--rezume; did you mean --resume? (see maskrcnn train --help)."),
        (["train"], "--config-file is missing; a small one is maskrcnn train --config-file mini/"),
        (["eval", "SEED", "3"], "--config-file is missing"),
        (["experiment"], "required: EXPERIMENT (see maskrcnn experiment --help)."),
        (["table", "--jobs", "2"], "Name a table first"),
        (
            ["table", "2c", "--plan", "--html", "a.html"],
            "--plan writes nothing, so that --html would be ig",
        ),
        (["table", "2c", "--html", "a.png"], "--html 'a.png': let its name end in .html."),
        (["table", "2c", "--plan", "--save-records"], "so that --save-records would be ignored"),
        (
            ["table", "2c", "--report", "--num-gpus", "2"],
            "--report runs nothing, so that --num-gpus",
        ),
        (["table", "2c", "--kept", "--eval-only"], "so that --eval-only would be ignored"),
        (["list", "2c", "--experiments", "r50_c4"], "that TABLE would be ignored"),
        (["list", "--experiments", "r50_c4", "--sizes"], "so that --sizes would be ignored"),
        (["list", "--compare", "--train"], "so that --train would be ignored"),
    ],
)
def test_a_mistake_is_one_sentence_and_status_2(words, text, capsys):
    assert main(words) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("Error: ")
    assert text in printed.err
    assert printed.err.count("\n") == 1


def test_help_may_be_asked_for_with_a_word(capsys):
    assert main(["help"]) == 0
    with pytest.raises(SystemExit):
        main(["help", "table"])
    printed = capsys.readouterr().out
    assert printed.startswith("usage: maskrcnn SUBCOMMAND")
    assert "usage: maskrcnn table" in printed


def test_all_lists_every_table_once_whatever_other_words_are_given():
    assert list(lines(["2c", "all"])) == list(lines([]))


def test_a_backend_that_does_not_exist_is_one_sentence():
    done = run(ROOT / "train_net.py", "--config-file", "a.yaml", MASKRCNN_REPRO_BACKEND="embeded")
    assert done.returncode == 2
    assert done.stderr == (
        "Error: MASKRCNN_REPRO_BACKEND='embeded' is not one of auto, installed, embedded. "
        "Did you mean 'embedded'?\n"
    )


def test_a_former_command_says_its_new_name(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["maskrcnn-table", "--plan"])
    assert former.table() == 2
    told, error = capsys.readouterr().err.splitlines()
    assert told.startswith("maskrcnn-table is called maskrcnn table now")
    assert error == "Error: Name a table first: maskrcnn-table TABLE [--rows ROW …]; or all."


def test_a_doorway_has_its_own_name_in_errors(capsys):
    assert run_command("train", ["--num-gpus"], prog="train_net.py") == 2
    assert capsys.readouterr().err.endswith("(see train_net.py --help).\n")


def test_the_error_of_a_parser_is_no_end_of_the_process():
    with pytest.raises(UsageError, match="expected one argument"):
        TRAIN.arguments(["--num-gpus"])


@pytest.mark.parametrize(
    ("name", "words", "place"),
    [
        ("predict", ["", "photos"], ""),
        ("predict", ["model", "photos", "--out", ""], " after '--out'"),
        ("convert-data", ["in", ""], " after 'in'"),
        ("compare", ["a", ""], " after 'a'"),
        ("train", ["--data", "", "images", "SEED", ""], " after '--data'"),
        ("experiment", ["r50_fpn", "SOLVER.MAX_ITER", "20", "--output", ""], " after '--output'"),
    ],
)
def test_an_empty_word_is_no_path(name, words, place):
    with pytest.raises(UsageError, match=f"^The argument{place} is empty; give a value"):
        COMMANDS[name].arguments(words)


def test_a_config_key_may_be_empty():
    words = ["--config-file", "a.yaml", "MODEL.WEIGHTS", ""]
    assert COMMANDS["train"].arguments(words).opts == words[2:]
    args = COMMANDS["experiment"].arguments(["r50_fpn", *words[2:], "--level", "mini"])
    assert args.opts == words[2:]
    assert COMMANDS["table"].arguments(["2c", "--", *words[2:]]).overrides == tuple(words[2:])


def test_a_list_that_is_given_twice_is_joined():
    words = ["m", "x.jpg", "--classes", "a", "b", "--classes", "c"]
    assert COMMANDS["predict"].arguments(words).classes == ["a", "b", "c"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no full device")
@pytest.mark.parametrize("unbuffered", ["", pytest.param("1", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        (
            "--version >/dev/full",
            2,
            "Error: The output cannot be written: No space left on device.\n",
        ),
        ("list >&-", 0, ""),
        ("nothing 2>/dev/full", 2, ""),
        ("nothing 2>&-", 2, ""),
    ],
)
def test_an_output_that_takes_nothing(words, status, told, unbuffered):
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT / "projects"),
        "PYTHONUNBUFFERED": unbuffered,
    }
    line = f"exec '{sys.executable}' -m maskrcnn_cli {words}"
    done = subprocess.run(
        ["sh", "-c", line], check=False, env=environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (status, told)


@pytest.mark.parametrize(
    ("encoding", "written"),
    [
        ("ascii", b'-0.5 +- 1 x^2 ... "a" Zurich \\u4e2d \xff.jpg'),
        ("cp1252", b"-0.5 \xb1 1 x\xb2 \x85 \xaba\xbb Z\xfcrich \\u4e2d \xff.jpg"),
        ("utf-16-le", "\N{MINUS SIGN}0.5 ± 1 x² … «a» Zürich 中 \\udcff.jpg".encode("utf-16-le")),
        ("utf-8", "\N{MINUS SIGN}0.5 ± 1 x² … «a» Zürich 中 ".encode() + b"\xff.jpg"),
    ],
)
def test_an_output_of_another_encoding_takes_every_text(encoding, written, monkeypatch):
    text = "\N{MINUS SIGN}0.5 ± 1 x² … «a» Zürich 中 " + os.fsdecode(b"\xff.jpg")
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding))
    assert run_guarded(lambda: print(text, end="") or 0) == 0
    assert raw.getvalue() == written
