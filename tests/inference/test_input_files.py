"""Files that are found as inputs, by the command line and by the predictor, and outputs that are kept apart from them."""

from pathlib import Path

from maskrcnn_repro.errors import DataError, OutputError
from maskrcnn_repro.inference.input_files import check_output_folder, find_inputs
from maskrcnn_repro.inference.inputs import sources_in

import numpy as np
import pytest


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def files(*names):
    for name in map(Path, names):
        name.parent.mkdir(parents=True, exist_ok=True)
        name.touch()


def check(*words, out):
    written = [Path(out, "overlays"), Path(out, "labelme")]
    check_output_folder(Path(out), written, words, find_inputs(words))


def test_a_folder_is_the_same_images_to_the_predictor_and_the_command():
    # Of .pdf and .mpeg Pillow writes some, of .h5 it knows the name, .eps is a drawing.
    files(
        "f/a.jpg", "f/b/c.png", "f/notes.pdf", "f/d.h5", "f/map.eps", "f/._a.jpg", "f/.trash/e.jpg"
    )
    files("f/clip.mpeg", "elsewhere/g.jpg")
    Path("f/link").symlink_to(Path("elsewhere").absolute())
    Path("f/b/loop").symlink_to(Path("f").absolute())
    expected = [Path("f/a.jpg"), Path("f/b/c.png"), Path("f/link/g.jpg")]
    assert list(sources_in("f")) == expected
    found = find_inputs(["f"])
    assert [item.path for item in found if not item.video] == [p.absolute() for p in expected]
    assert [item.name for item in found if item.video] == ["clip.mpeg"]
    assert list(sources_in("f/*")) == [Path("f/a.jpg")]
    assert [item.name for item in find_inputs(["f/*"])] == ["a.jpg", "clip.mpeg"]


@pytest.mark.parametrize("nothing", [[], (), np.zeros((0, 4, 4, 3), np.uint8), ["a.jpg", []]])
def test_nothing_to_look_at_is_told(nothing):
    with pytest.raises(DataError, match=r"There is no image in an empty (list|tuple|ndarray)"):
        list(sources_in(nothing))
    assert list(sources_in(image for image in ())) == []


@pytest.mark.parametrize(
    ("word", "out"),
    [
        ("overlays/*.jpg", "."),
        ("*/*.jpg", "."),
        ("over*/a.jpg", "."),
        ("../*/overlays/?.jpg", "."),
        ("overlays", "."),
        ("linked/a.jpg", "."),
        ("link.jpg", "."),
    ],
)
def test_an_input_that_would_be_overwritten_is_refused(tmp_path, word, out):
    files("overlays/a.jpg")
    Path("linked").symlink_to("overlays")
    Path("link.jpg").symlink_to("overlays/a.jpg")
    with pytest.raises(OutputError, match=r"lies in overlays, where|gets files that the pattern"):
        check(word, out=out)


@pytest.mark.parametrize(
    ("word", "out"),
    [
        ("**/*.jpg", "."),
        ("**/*.jpg", "predictions"),
        ("*/*/*.jpg", "predictions"),
        ("p*/a.jpg", "photos"),
        ("photos/**/*.jpg", "photos/new"),
    ],
)
def test_a_pattern_that_would_fit_outputs_is_refused_before_there_are_any(word, out):
    files("photos/a.jpg", "photos/b/c.jpg")
    if word == "p*/a.jpg":
        check(word, out=out)  # It fits photos/overlays in no case.
        word = "p*/*/*.jpg"
    with pytest.raises(OutputError, match=r"gets files that the pattern .* may fit: the next run"):
        check(word, out=out)


@pytest.mark.parametrize(
    ("word", "out"),
    [
        ("*.jpg", "."),
        ("*.jpg", "predictions"),
        ("photos/*.jpg", "photos"),
        ("photos/**/*.jpg", "predictions"),
        ("photos/b", "photos"),
        ("[a].jpg", "."),
    ],
)
def test_other_outputs_are_fine(word, out):
    files("a.jpg", "[a].jpg", "photos/a.jpg", "photos/b/c.jpg")
    check(word, out=out)
