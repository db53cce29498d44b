"""What is told of an experiment: rows, config, baseline, stages, command, and the header of its config."""

from maskrcnn_repro.tables.paper.description import as_markdown, describe
from maskrcnn_repro.tables.paper.experiments import experiments, find_experiment

import pytest

from tests.helpers.commands import list_rows

ROIPOOL = """\
r50_c4_roipool: RoIPool of Fast R-CNN: the RoI and its bins are rounded to cells, maximum. Boxes and masks share \
res5, so both read it. Cost of this stage: as r50_c4.
    config   coco/r50_c4_roipool.yaml
    rows     T2c.pool
    against  r50_c4: MODEL.ROI_OP.NAME
    stages   rpn_r50_c4, r50_c4_roipool
    command  maskrcnn experiment r50_c4_roipool --level paper --num-gpus 8
"""


@pytest.mark.parametrize("name", ["r50_c4_roipool", "r50-c4-roipool"])
def test_the_command_tells_all_of_an_experiment(name, capsys):
    assert list_rows(["--experiments", name]) == 0
    assert capsys.readouterr().out == ROIPOOL


def test_an_experiment_without_row_and_baseline_has_no_such_line(capsys):
    assert list_rows(["--experiments", "rpn_r50_c4"]) == 0
    titles = [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:]]
    assert titles == ["config", "stages", "command"]


def test_without_a_name_all_are_told(capsys):
    assert list_rows(["--experiments"]) == 0
    paragraphs = capsys.readouterr().out.split("\n\n")
    names = [text.partition(":")[0] for text in paragraphs]
    # Those of installed plug-ins come behind.
    assert names[: len(experiments())] == list(experiments())
    assert len(set(names)) == len(names)


def test_an_evaluation_is_against_what_it_evaluates():
    description = describe(find_experiment("r50_c4_softmax_argmax"))
    assert description.rows == "X2b.argmax"
    assert description.against == "r50_c4_softmax: MODEL.ROI_MASK_HEAD.SOFTMAX_INFERENCE"
    assert description.stages == "rpn_r50_c4, r50_c4_softmax, r50_c4_softmax_argmax"


def test_the_table_of_the_documentation_has_a_line_for_each():
    lines = as_markdown(map(describe, experiments().values())).splitlines()
    assert len(lines) == 2 + len(experiments())
    assert lines[2].startswith("| rpn_r50_c4 ")


def test_an_unknown_experiment_is_named(capsys):
    assert list_rows(["--experiments", "r50_c4_pool"]) == 2
    assert "Experiment 'r50_c4_pool' does not exist. Did you mean" in capsys.readouterr().err
