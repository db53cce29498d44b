"""What a run of a table says of its progress, and of the time that is left."""

from maskrcnn_repro.tables.paper.experiments import experiments
from maskrcnn_repro.tables.runs import progress
from maskrcnn_repro.tables.runs.plan import plan
from maskrcnn_repro.tables.runs.processes import parse_progress
from maskrcnn_repro.tables.runs.progress import clock, time_left
from maskrcnn_repro.tables.runs.stage import Setting


def test_the_progress_of_a_training_is_iteration_loss_and_time():
    lines = [
        "[08:15:52]  eta: 0:03:57  iter: 239  total_loss: 2.912  loss_cls: 1.195",
        "[08:15:53] Checkpoint output/model_0000239.pth",
    ]
    assert parse_progress(lines) == ("iter 239, loss 2.912, eta 0:03:57", 237.0)
    assert parse_progress(["eta: 2 days, 1:00:00  iter: 5"])[1] == 49 * 3600
    assert parse_progress(["[08:00:00] Cached 2000 decoded images"]) == (
        "Cached 2000 decoded images",
        None,
    )
    assert parse_progress([]) == ("starting", None)
    inference = "[08:16:00] Inference done 41/1000. 0.1598 s / iter. ETA=0:02:33"
    assert parse_progress([*lines, inference]) == ("inference 41/1000, eta 0:02:33", 153.0)


def test_the_time_left_is_spread_over_jobs_but_no_shorter_than_the_longest():
    assert time_left([60.0], [100.0, 100.0], 1) == "about 0:04:20"
    assert time_left([60.0], [100.0, 100.0], 2) == "about 0:02:10"
    assert time_left([300.0], [100.0], 2) == "about 0:05:00"
    assert time_left([], [], 2) == "about 0:00:00"


def test_the_known_time_left_is_told_with_the_number_of_stages_of_unknown_time():
    assert time_left([60.0, None], [], 2) == "about 0:01:00 and 1 stage of unknown time"
    assert time_left([], [None, None], 2) == "2 stages of unknown time"


def test_a_duration_is_a_clocks():
    assert clock(237.4) == "0:03:57"


def test_the_papers_sizes_cost_what_the_data_say(tmp_path):
    table_plan = plan(["r50_fpn"], [1], Setting("paper", root=tmp_path), experiments())
    rpn, store, training = table_plan.stages
    assert progress.paper_cost(rpn) == "10.4 h on 8 P100s (Detectron's model zoo)."
    assert progress.paper_cost(store) == "time unknown"
    assert progress.paper_cost(training).startswith("32 h on 8 GPUs (the paper")
    mini = plan(["r50_fpn"], [1], Setting("mini", root=tmp_path), experiments()).stages[-1]
    assert progress.paper_cost(mini) == "time unknown"
