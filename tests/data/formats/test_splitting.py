"""The split: by a seed, whole groups, whatever the order of the images."""

import random

from maskrcnn_repro.data.formats.splitting import build_grouping, split
from maskrcnn_repro.errors import ConfigError, DataError

import pytest

NAMES = [f"p{patient}/{number}.png" for patient in range(10) for number in range(patient + 1)]


def test_the_order_of_the_images_does_not_matter():
    shuffled = random.Random(0).sample(NAMES, len(NAMES))
    first = split(NAMES, 0.8, 1, build_grouping(None))
    assert split(shuffled, 0.8, 1, build_grouping(None)) == first
    assert len(first) == 44  # of 55
    assert split(NAMES, 0.8, 2, build_grouping(None)) != first


def test_an_image_stays_where_it_is_when_others_come():
    first = split(NAMES, 0.5, 1, build_grouping(None))
    more = split([*NAMES, "new.png"], 0.5, 1, build_grouping(None))
    assert len(first - more) <= 1


@pytest.mark.parametrize("rule", ["folder", r"^p(\d+)/", r"^p\d+"])
def test_groups_are_kept_whole_near_the_share(rule):
    train = split(NAMES, 0.8, 3, build_grouping(rule))
    patients = {name.split("/")[0] for name in train}
    assert train == {name for name in NAMES if name.split("/")[0] in patients}
    assert abs(len(train) - 44) <= 5


@pytest.mark.parametrize("share", [0.001, 0.999])
def test_no_part_is_empty(share):
    assert len(split(["a", "b", "c"], share, 1, build_grouping(None))) in (1, 2)


def test_copies_of_roboflow_are_one_group():
    group = build_grouping(None)
    assert group("train/a_jpg.rf.0f3e.jpg") == group("train/a_jpg.rf.99ab.jpg")
    assert group("train/a_jpg.rf.0f3e.jpg") != group("train/b_jpg.rf.0f3e.jpg")


@pytest.mark.parametrize("rule", [None, "folder", r"^nothing", r"(.*)\.jpg$"])
def test_copies_of_roboflow_are_together_under_any_rule(rule):
    names = [f"{n % 5}/{n}.rf.{copy}.jpg" for n in range(20) for copy in "abc"]
    train = split(names, 0.5, 1, build_grouping(rule))
    assert {name.split(".")[0] for name in train}.isdisjoint(
        name.split(".")[0] for name in set(names) - train
    )


def test_what_a_rule_does_not_match_is_in_no_group():
    assert build_grouping(r"^p(\d)")("q1.png") == ""


def test_one_group_cannot_be_split():
    with pytest.raises(DataError, match="two groups of images or more"):
        split(["a/1", "a/2"], 0.8, 1, build_grouping("folder"))


def test_a_rule_that_is_no_regular_expression():
    with pytest.raises(ConfigError, match=r"--group-by '\(' is no regular expression"):
        build_grouping("(")
