"""Every file of the corpus in a training with evaluation: refused in one sentence at the start, or done to the end."""

import json

from maskrcnn_repro.data.check.fix import fix_tree
from maskrcnn_repro.data.check.scan import scan_coco
from maskrcnn_repro.engine.main import main
from maskrcnn_repro.errors import DataError

import pytest

from tests.data.check.corpus import CORPUS
from tests.data.check.spoiling import write
from tests.helpers.tiny_coco import command_line

pytestmark = pytest.mark.slow
KEYPOINTS = ("MODEL.KEYPOINT_ON", "True", "TEST.KEYPOINT_OKS_SIGMAS", "(0.05,0.05,0.05,0.05,0.05)")


def trained(data, output, *opts):
    few = ("SOLVER.MAX_ITER", "2", "TEST.SHEET_IMAGES", "0", "MODEL.ROI_HEADS.NUM_CLASSES", "80")
    return main(command_line(data, output, opts=(*few, *opts)))


@pytest.mark.parametrize("name", CORPUS)
def test_a_defect_ends_a_run_before_its_first_iteration_or_not_at_all(
    tmp_path, catalog, capsys, name
):
    spoil, code = CORPUS[name]
    keypoints = KEYPOINTS if code.startswith("keypoint") else ()
    status = trained(write(tmp_path, spoil), tmp_path / "run", *keypoints)
    printed, errors = capsys.readouterr()
    assert "Traceback" not in errors
    if status:
        assert status == 2
        assert errors.startswith("Error: ") or "\nError: " in errors
        assert "Starting training" not in printed


@pytest.mark.parametrize("name", CORPUS)
def test_a_mended_copy_trains(tmp_path, catalog, capsys, name):
    path, images = write(tmp_path, CORPUS[name][0])
    try:
        tree, _ = fix_tree(scan_coco(path, images))
    except DataError:
        return  # which these are, test_fix.py says
    path.write_text(json.dumps(tree))
    assert trained((path, images), tmp_path / "run") == 0, capsys.readouterr().err
