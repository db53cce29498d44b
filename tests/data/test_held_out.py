"""Images held out for evaluation: how many, which, and what stays of a file."""

from maskrcnn_repro.data.held_out import hold_out

import pytest


def tree(full, empty=0, crowds=0):
    ids = list(range(1, full + empty + crowds + 1))
    annotations = [
        {"id": number, "image_id": number, "iscrowd": int(number > full)}
        for number in [*ids[:full], *ids[full + empty :]]
    ]
    return {
        "info": "kept",
        "images": [{"id": number} for number in ids],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "disc"}],
    }


def ids_of(part):
    return {image["id"] for image in part["images"]}


@pytest.mark.parametrize(
    ("full", "empty", "held"), [(10, 0, 2), (2, 0, 1), (3, 0, 1), (100, 50, 30), (2, 9, 3)]
)
def test_a_fifth_of_the_images_is_held_out(full, empty, held):
    whole = tree(full, empty)
    train, val = hold_out(whole, seed=0)
    assert len(ids_of(val)) == held
    assert ids_of(train) | ids_of(val) == ids_of(whole)
    assert not ids_of(train) & ids_of(val)
    for part in (train, val):
        assert {a["image_id"] for a in part["annotations"]} <= ids_of(part)
        assert part["annotations"]
        assert (part["info"], part["categories"]) == ("kept", whole["categories"])


def test_the_seed_decides():
    assert hold_out(tree(50), seed=3) == hold_out(tree(50), seed=3)
    assert hold_out(tree(50), seed=3) != hold_out(tree(50), seed=4)


@pytest.mark.parametrize(
    "whole", [tree(1), tree(1, empty=5), tree(1, crowds=3), {"images": [{"id": 1}, {"id": 2}]}]
)
def test_without_two_images_with_objects_both_sides_are_the_whole(whole):
    assert hold_out(whole, seed=0) == (whole, whole)
