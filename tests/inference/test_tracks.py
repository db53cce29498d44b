"""Objects of a video keep their number."""

from maskrcnn_repro.inference.tracks import PATIENCE, Tracks

from tests.helpers.predictions import prediction

LEFT, RIGHT = (0, 0, 10, 10), (30, 0, 40, 10)


def numbers(tracks, *boxes, class_ids=None):
    return tracks.update(prediction((), list(boxes), class_ids))


def test_objects_keep_their_numbers_in_any_order():
    tracks = Tracks()
    assert numbers(tracks, LEFT, RIGHT) == [0, 1]
    # IoU 8/12 with the left.
    assert numbers(tracks, RIGHT, (2, 0, 12, 10)) == [1, 0]


def test_the_nearer_object_gets_the_number():
    tracks = Tracks()
    numbers(tracks, LEFT)
    # IoU 6/14 and 9/11.
    assert numbers(tracks, (4, 0, 14, 10), (1, 0, 11, 10)) == [1, 0]


def test_another_class_or_a_jump_is_another_object():
    tracks = Tracks()
    numbers(tracks, LEFT, class_ids=[0])
    assert numbers(tracks, LEFT, class_ids=[1]) == [1]
    assert numbers(tracks, RIGHT, class_ids=[1]) == [2]


def test_an_object_comes_back_within_some_frames_and_no_later():
    tracks = Tracks()
    for unseen, number in ((0, 0), (PATIENCE - 1, 0), (PATIENCE, 1)):
        for _ in range(unseen):
            assert numbers(tracks) == []
        assert numbers(tracks, LEFT) == [number]
