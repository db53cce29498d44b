"""``maskrcnn predict`` with a model that finds one box and mask in each image: what it reads, writes and refuses."""

import itertools
import json
import os
import signal
from types import SimpleNamespace

from maskrcnn_cli.dispatch import main
from maskrcnn_repro.checkpoint.model_file import Labels
from maskrcnn_repro.commands import predict
from maskrcnn_repro.inference import video
from maskrcnn_repro.inference.video import Video, VideoFile
from maskrcnn_repro.utils import files
from maskrcnn_repro.utils.lock import locked

import numpy as np
import pytest
from PIL import Image

from tests.helpers.predictions import NAMES, prediction


class OneObject:
    """In place of the predictor; counts images, and can be interrupted after some."""

    interrupt_after = None
    arguments = None
    path = "fused bfloat16"

    def __init__(self, source, threshold, **arguments):
        type(self).arguments = {"source": source, "threshold": threshold, **arguments}
        self.labels = Labels(NAMES)
        self.cfg = SimpleNamespace(INPUT=SimpleNamespace(PIXEL_RANGE=[]))

    def stream(self, inputs, *, batch_size, on_error=None):
        for number, image in enumerate(inputs, start=1):
            if number == self.interrupt_after:
                os.kill(os.getpid(), signal.SIGINT)
            mask = np.zeros(image.shape[:2], np.uint8)
            mask[: image.shape[0] // 2 + 1] = 1
            yield prediction([mask])


@pytest.fixture(autouse=True)
def model(monkeypatch, tmp_path):
    monkeypatch.setattr(predict, "Predictor", OneObject)
    monkeypatch.setattr(OneObject, "interrupt_after", None)
    monkeypatch.chdir(tmp_path)
    return OneObject


def photo(path, size=(40, 30), color=(90, 90, 90), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, color).save(path, **options)
    return path


def clip(path, frames=6, size=(48, 64), fps=10):
    path.parent.mkdir(parents=True, exist_ok=True)
    with VideoFile(path, fps) as file:
        for _ in range(frames):
            file.add(np.full((*size, 3), 80, np.uint8))
    return path


def coco(path):
    return json.loads(path.read_text(encoding="utf-8"))


def names(path):
    return [image["file_name"] for image in coco(path)["images"]]


def test_a_folder_keeps_its_sub_folders(tmp_path, capsys):
    for name in ("a/x.jpg", "b/x.jpg", "x.png", "b/x.bmp"):
        photo(tmp_path / "photos" / name)
    (tmp_path / "photos/notes.txt").write_text("no image")
    photo(tmp_path / "photos/.thumbnails/x.jpg")
    assert main(["predict", "model", "photos", "--threshold", "0.25", "--classes", "cat"]) == 0
    out = tmp_path / "predictions"
    assert names(out / "predictions.json") == ["a/x.jpg", "b/x.bmp", "b/x.jpg", "x.png"]
    overlays = {str(p.relative_to(out / "overlays")) for p in out.rglob("*.*g") if p.is_file()}
    assert overlays == {"a/x.jpg", "b/x.bmp.png", "b/x.jpg", "x.png"}
    assert "4 images, 4 objects" in capsys.readouterr().out
    assert OneObject.arguments["threshold"] == 0.25
    assert OneObject.arguments["classes"] == ["cat"]


def test_files_of_two_folders_with_one_name_are_kept_apart(tmp_path):
    for folder in ("one", "two"):
        photo(tmp_path / folder / "x.jpg")
    assert main(["predict", "model", "one/x.jpg", "two", "one/*.jpg"]) == 0
    assert names(tmp_path / "predictions/predictions.json") == ["one/x.jpg", "two/x.jpg"]


def test_overlays_in_another_format_do_not_take_the_name_of_another_image(tmp_path):
    for name in ("x.bmp", "x.bmp.png", "x.png"):
        photo(tmp_path / "photos" / name)
    assert main(["predict", "model", "photos"]) == 0
    overlays = {path.name for path in (tmp_path / "predictions/overlays").iterdir()}
    assert overlays == {"x.bmp.png", "x.bmp.png.png", "x.png"}


def test_overlays_are_drawn_at_a_legible_size(tmp_path):
    photo(tmp_path / "photos/small.png", (40, 30))
    photo(tmp_path / "photos/large.png", (2000, 20))
    main(["predict", "model", "photos"])
    sizes = {p.name: Image.open(p).size for p in (tmp_path / "predictions/overlays").iterdir()}
    assert sizes == {"small.png": (480, 360), "large.png": (1600, 16)}


def test_an_image_is_turned_as_its_exif_asks(tmp_path):
    exif = Image.Exif()
    exif[0x112] = 6
    photo(tmp_path / "x.jpg", (40, 30), exif=exif)
    main(["predict", "model", "x.jpg"])
    image = coco(tmp_path / "predictions/predictions.json")["images"][0]
    assert (image["width"], image["height"]) == (30, 40)


def test_unreadable_files_are_named_and_skipped(tmp_path, capsys):
    photo(tmp_path / "photos/good.jpg")
    whole = photo(tmp_path / "photos/cut.jpg", (400, 300)).read_bytes()
    (tmp_path / "photos/cut.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "photos/empty.jpg").touch()
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(tmp_path / "photos/deep.png")
    (tmp_path / "photos/loop.png").symlink_to("loop.png")
    (tmp_path / "photos/again").symlink_to(tmp_path / "photos")
    (tmp_path / "photos/text.mp4").write_text("no video")
    assert main(["predict", "model", "photos"]) == 1
    error = capsys.readouterr().err
    lines = [line for line in error.splitlines() if line.startswith("Skipped: ")]
    named = [next(n for n in ("cut", "empty", "deep", "loop", "text") if n in x) for x in lines]
    assert sorted(named) == ["cut", "deep", "empty", "loop", "text"]
    assert error.endswith("Skipped and named above: 5\n")
    assert names(tmp_path / "predictions/predictions.json") == ["good.jpg"]


def test_two_commands_do_not_share_a_folder(tmp_path, capsys):
    photo(tmp_path / "x.jpg")
    with locked(tmp_path / "predictions"):
        assert main(["predict", "model", "x.jpg"]) == 2
    assert "--out 'predictions' is in use by another run" in capsys.readouterr().err
    assert not (tmp_path / "predictions/predictions.json").exists()
    assert main(["predict", "model", "x.jpg"]) == 0


ANNOTATIONS = {
    "labelme": "labelme/x.json",
    "cvat": "annotations.xml",
    "labelstudio": "label_studio.json",
}


@pytest.mark.parametrize("form", ANNOTATIONS)
def test_annotations_corrected_by_hand_are_not_replaced(tmp_path, capsys, form):
    photo(tmp_path / "photos/x.png")
    words = ["predict", "model", "photos", "--out", "o", "--no-overlays", "--format", form]
    assert main(words) == main(words) == 0  # what nobody touched is written again
    file = tmp_path / "o" / ANNOTATIONS[form]
    predicted = file.read_bytes()
    file.write_bytes(predicted + b" ")
    assert main(words) == 2
    assert capsys.readouterr().err == (
        f"Error: o/{ANNOTATIONS[form]} was changed since it was predicted, or comes from elsewhere; name another --out "
        "to keep it, or give --overwrite.\n"
    )
    assert file.read_bytes() == predicted + b" "
    assert main([*words, "--overwrite"]) == 0
    assert file.read_bytes() == predicted
    (tmp_path / "o/predictions.json").write_text("{}")
    assert main(words[:-2]) == 0  # results are no corrections


def test_no_folder_is_named_that_was_not_written(tmp_path, capsys):
    (tmp_path / "empty.jpg").touch()
    assert main(["predict", "model", "empty.jpg"]) == 1
    printed = capsys.readouterr().out
    assert printed.startswith("0 images, 0 objects")
    assert "Overlays" not in printed
    photo(tmp_path / "x.jpg")
    assert main(["predict", "model", "x.jpg"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("1 image, 1 object, ")
    assert "Overlays: predictions/overlays" in printed


def test_deep_grey_is_read_with_its_range(tmp_path):
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(tmp_path / "deep.png")
    assert main(["predict", "model", "deep.png", "--pixel-range", "0", "4095"]) == 0


@pytest.mark.parametrize("name", ["a\nb.jpg", "50%d [x].jpg", "ü 名.jpg"])
def test_odd_names(tmp_path, name):
    photo(tmp_path / "photos" / name)
    assert main(["predict", "model", f"photos/{name}"]) == 0
    assert names(tmp_path / "predictions/predictions.json") == [name]
    assert (tmp_path / "predictions/overlays" / name).is_file()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["empty"], "Folder empty has no images or videos in it or below it."),
        (["nowhere.jpg"], "nowhere.jpg does not exist; name an image"),
        (["empty/*.jpg"], "Pattern empty/*.jpg fits no image or video."),
        (["https://a.b/c.jpg"], "https://a.b/c.jpg is an address: download the file"),
        (["photos", "--out", "photos"], "--out photos is the input folder photos or lies in it"),
        (["photos", "--out", "photos/new"], "is the input folder photos or lies in it"),
        (["photos", "--out", "file"], "--out file is a file; name a folder."),
        (["out/overlays/y.jpg", "--out", "out"], "lies in out/overlays, where overlays"),
        (["photos/x.jpg", "--json", "photos/x.jpg"], "--json 'photos/x.jpg': let its name end"),
        (["clip.mp4", "--format", "cvat"], "--format cvat holds images, and frames of a video"),
        (["photos", "--pixel-range", "2", "1"], "of which the first is smaller"),
        (
            ["mini-fpn"],
            "mini-fpn does not exist; name an image, a video, a folder or a pattern (the m",
        ),
        ([""], "The argument after 'model' is empty"),
        (["photos", "--out="], "The argument after '--out=' is empty"),
        ([], "Name images, videos or folders, or a camera"),
    ],
)
def test_a_wrong_command_is_one_sentence(tmp_path, capsys, words, sentence):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    before = photo(tmp_path / "photos/x.jpg").read_bytes()
    photo(tmp_path / "out/overlays/y.jpg")
    (tmp_path / "clip.mp4").touch()
    assert main(["predict", "model", *words]) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1
    assert (tmp_path / "photos/x.jpg").read_bytes() == before
    assert not (tmp_path / "predictions").exists()


def test_a_video_keeps_size_and_rate(tmp_path, capsys):
    clip(tmp_path / "clips/a.avi.mp4", fps=12.5)
    assert main(["predict", "model", "clips"]) == 0
    drawn = Video(tmp_path / "predictions/overlays/a.avi.mp4")
    frames = list(drawn.frames())
    assert (drawn.fps, len(frames), frames[0].shape) == (12.5, 6, (48, 64, 3))
    # The upper half is tinted.
    assert np.abs(frames[3][:20].astype(int) - 80).mean() > 20
    tree = coco(tmp_path / "predictions/predictions.json")
    assert [image["frame"] for image in tree["images"]] == list(range(6))
    assert {annotation["track_id"] for annotation in tree["annotations"]} == {0}
    assert "6 images, 6 objects" in capsys.readouterr().out


def test_the_number_of_frames_can_be_limited(tmp_path):
    clip(tmp_path / "a.mp4")
    assert main(["predict", "model", "a.mp4", "--frames", "2", "--no-overlays"]) == 0
    assert names(tmp_path / "predictions/predictions.json") == ["a.mp4/000000", "a.mp4/000001"]
    assert not (tmp_path / "predictions/overlays").exists()


class Silent:
    """A video that opens, and gives some of the frames that it announces."""

    def __init__(self, frames):
        self.left = [np.zeros((4, 6, 3), np.uint8)] * frames

    def isOpened(self):
        return True

    def get(self, key):
        return {video.cv2.CAP_PROP_FPS: float("nan"), video.cv2.CAP_PROP_FRAME_COUNT: 30}[key]

    def read(self):
        return (True, self.left.pop()) if self.left else (False, None)

    def release(self):
        pass


@pytest.mark.parametrize(
    ("frames", "sentence"),
    [
        (0, "has no frame that can be read"),
        (20, "breaks off after 20 of 30 frames; those are done"),
    ],
)
def test_frames_that_are_missing(tmp_path, capsys, monkeypatch, frames, sentence):
    (tmp_path / "a.mp4").write_text("some")
    monkeypatch.setattr(video, "_open", lambda source, reader: Silent(frames))
    assert main(["predict", "model", "a.mp4", "--no-overlays"]) == 1
    assert sentence in capsys.readouterr().err
    assert len(names(tmp_path / "predictions/predictions.json")) == frames


def test_a_camera_runs_until_it_is_interrupted(tmp_path, capsys, monkeypatch):
    opened = video._open
    monkeypatch.setattr(OneObject, "interrupt_after", 9)
    monkeypatch.setattr(
        video, "_open", lambda source, *rest: Silent(99) if source == 0 else opened(source, *rest)
    )
    assert main(["predict", "model", "--camera", "0"]) == 130
    assert capsys.readouterr().err == "Interrupted.\n"
    tree = coco(tmp_path / "predictions/predictions.json")
    drawn = Video(tmp_path / "predictions/overlays/camera0.mp4")
    assert drawn.count == len(tree["images"]) == 8


def test_a_camera_that_is_not_there(capsys):
    assert main(["predict", "model", "--camera", "73"]) == 1
    assert "Camera 73 cannot be opened" in capsys.readouterr().err


@pytest.mark.parametrize("form", ["coco", "labelme", "cvat", "labelstudio"])
def test_what_is_done_is_whole_after_an_interruption(tmp_path, monkeypatch, form):
    for number in range(30):
        photo(tmp_path / f"photos/{number:02d}.jpg")
    monkeypatch.setattr(OneObject, "interrupt_after", 9)
    words = ["photos", "--format", form, "--json", "all.json"]
    assert main(["predict", "model", *words]) == 130
    done = names(tmp_path / "all.json")
    assert done == [f"{number:02d}.jpg" for number in range(8)]
    overlays = sorted(p.name for p in (tmp_path / "predictions/overlays").iterdir())
    assert overlays == done
    for picture in (tmp_path / "predictions/overlays").iterdir():
        Image.open(picture).load()


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="tells files by Linux's /proc")
@pytest.mark.parametrize("full", ["overlays", "json"])
def test_a_full_disk_is_one_sentence_and_leaves_no_parts(tmp_path, capsys, monkeypatch, full):
    photo(tmp_path / "photos/x.jpg")
    suffix = {"overlays": ".jpg", "json": ".json"}[full]
    sync = os.fsync

    def fsync(descriptor):
        if os.readlink(f"/proc/self/fd/{descriptor}").endswith(suffix):
            raise OSError(28, "No space left on device")
        sync(descriptor)

    monkeypatch.setattr(files.os, "fsync", fsync)
    assert main(["predict", "model", "photos"]) == 2
    error = capsys.readouterr().err
    assert "cannot be written: No space left on device." in error
    assert error.count("\n") == 1
    assert not list((tmp_path / "predictions").rglob(".part-*"))


def test_colours_of_objects_stay_over_frames(tmp_path):
    """Tracks are drawn as if each were a class: two objects of one class in the order of their tracks."""
    bars = np.zeros((2, 60, 80), np.uint8)
    bars[0, 10:50, 5:25] = bars[1, 10:50, 50:70] = 1
    image = np.full((60, 80, 3), 128, np.uint8)
    pictures = [
        prediction(masks, class_ids=[1, 1]).draw(image, colors=colors)
        for masks, colors in ((bars, [0, 5]), (bars[::-1], [5, 0]))
    ]
    inside = [picture[40, (15, 60)].tolist() for picture in pictures]
    assert inside[0] == inside[1]
    assert inside[0][0] != inside[0][1]


def test_signals_are_given_back(tmp_path):
    photo(tmp_path / "x.jpg")
    before = signal.getsignal(signal.SIGINT)
    main(["predict", "model", "x.jpg"])
    assert signal.getsignal(signal.SIGINT) is before


def test_every_option_of_the_model_arrives(tmp_path):
    photo(tmp_path / "x.jpg")
    words = ["--device", "cpu", "--precision", "bfloat16", "--tta", "--tiles", "512", "--trust"]
    main(["predict", "model", *words, "x.jpg"])
    expected = {"device": "cpu", "precision": "bfloat16", "tta": True, "tiles": 512, "trust": True}
    assert dict(itertools.islice(OneObject.arguments.items(), 3, None)) == expected
