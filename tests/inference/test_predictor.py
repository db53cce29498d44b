"""The predictor: one image or many, equal to the last bit, and as in an evaluation."""

import gc
import json
import shutil
import threading

from maskrcnn_cli import main
from maskrcnn_repro import Predictor
from maskrcnn_repro.checkpoint.model_file import Labels
from maskrcnn_repro.checkpoint.model_source import find_model
from maskrcnn_repro.data import prepare_data
from maskrcnn_repro.data.image_file import ImageError
from maskrcnn_repro.engine.trained import load_trained
from maskrcnn_repro.errors import CheckpointError, ConfigError, DataError
from maskrcnn_repro.evaluation.coco import evaluate
from maskrcnn_repro.inference.settings import least_score

import numpy as np
import psutil
import pytest
import torch
from PIL import Image

from tests.helpers.tiny_coco import CLASSES, command_line, write_tiny_coco
from tests.helpers.tiny_predictor import SIZES, assert_equal, write_pictures, write_tiny_model


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def predictor(model):
    return Predictor(model, threshold=0.0, device="cpu")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return write_pictures(tmp_path_factory.mktemp("pictures"))


@pytest.mark.parametrize("batch_size", [1, 3])
def test_a_folder_equals_a_loop_to_the_last_bit(predictor, pictures, batch_size):
    together = predictor(pictures[0].parent, batch_size=batch_size)
    assert [p.path for p in together] == [str(file) for file in pictures]
    assert [(p.height, p.width) for p in together] == list(SIZES)
    assert sum(map(len, together)) > len(SIZES)
    for prediction, file in zip(together, pictures, strict=True):
        assert_equal(prediction, predictor(file))


def test_every_kind_of_input_is_the_same_image(predictor, pictures):
    file = pictures[2]
    expected = predictor(file)
    array = np.asarray(Image.open(file))
    for x in (str(file), array, Image.open(file), file.read_bytes()):
        assert_equal(predictor(x), expected, path=False)
    several = predictor([file, array, (path for path in pictures[:2])])
    assert [p.path for p in several] == [str(file), None, *map(str, pictures[:2])]
    assert len(predictor(np.stack([array, array]))) == 2
    assert [p.path for p in predictor(str(file.parent / "00[13].png"))] == [
        str(pictures[1]),
        str(pictures[3]),
    ]


def test_threads_get_what_a_loop_gets(predictor, pictures):
    expected, results, threads = predictor(pictures), {}, []
    for number in range(4):
        threads.append(
            threading.Thread(target=lambda n=number: results.update({n: predictor(pictures)}))
        )
        threads[-1].start()
    for thread in threads:
        thread.join()
    for number in range(4):
        for prediction, other in zip(results[number], expected, strict=True):
            assert_equal(prediction, other)


@pytest.mark.parametrize("tta", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_it_finds_what_an_evaluation_finds(tmp_path, catalog, tta):
    json_file, images = write_tiny_coco(tmp_path)
    keys = {"MODEL.ROI_HEADS.NUM_CLASSES": 2, "TEST.AUG.MIN_SIZES": (64, 96)}
    file = write_tiny_model(tmp_path, "mask", Labels(CLASSES, (1, 4)), **keys)
    cfg = find_model(file).cfg
    cfg.DATASETS.CUSTOM = [["tiny", str(json_file), str(images)]]
    cfg.DATASETS.TEST, cfg.TEST.AUG.ENABLED = ("tiny",), tta
    cfg.DATALOADER.NUM_WORKERS = 0
    prepare_data(cfg, training=False)
    evaluate(cfg, load_trained(cfg, str(file))[0].eval(), tmp_path)
    written = json.loads((tmp_path / "tiny" / "coco_instances_results.json").read_text())
    assert written
    predictor, entries = Predictor(file, threshold=None, device="cpu", tta=tta), []
    for image in json.loads(json_file.read_text())["images"]:
        entries += predictor(images / image["file_name"]).to_coco(image["id"])
    assert entries == written


@pytest.mark.parametrize(
    ("threshold", "lowest", "expected"),
    [
        ("auto", None, 0.5),
        ("auto", 0.05, 0.5),
        ("auto", 0.7, 0.7),
        (None, None, None),
        (None, 0.7, 0.7),
        (0.3, 0.7, 0.3),
    ],
)
def test_without_a_threshold_it_is_a_half_or_what_an_exported_file_knows(
    threshold, lowest, expected
):
    assert least_score(threshold, lowest) == expected


def test_the_threshold_and_the_classes_leave_the_rest_as_it_is(model, predictor, pictures):
    everything = predictor(pictures[0])
    middle = float(np.median(everything.scores))
    high = Predictor(model, threshold=middle, device="cpu")(pictures[0])
    assert len(high) == (everything.scores > middle).sum() > 0
    assert (high.scores > middle).all()
    name = everything.names[0]
    chosen = Predictor(model, 0.0, classes=[name], device="cpu")(pictures[0])
    assert_equal(chosen, everything[np.array(everything.names) == name])
    assert 0 < len(chosen)


def test_nothing_found_is_an_empty_prediction(model, pictures):
    prediction = Predictor(model, threshold=1.0, device="cpu")(pictures[0])
    assert (len(prediction), prediction.names, prediction.to_coco(1)) == (0, [], [])
    assert prediction.boxes.shape == (0, 4)
    assert prediction.masks.shape == (0, 64, 80)
    assert prediction.draw().shape == (64, 80, 3)


def test_the_next_image_is_decoded_meanwhile(predictor, pictures):
    asked = []
    stream = predictor.stream(asked.append(file) or file for file in pictures)
    next(stream)
    assert len(asked) == 3
    stream.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("decode images")]


def test_broken_images_are_told_and_left_out(predictor, pictures, tmp_path):
    broken, errors = tmp_path / "broken.png", []
    broken.write_bytes(pictures[0].read_bytes()[:100])
    inputs = [pictures[0], broken, pictures[1]]
    stream = predictor.stream(inputs, on_error=lambda source, error: errors.append((source, error)))
    assert [p.path for p in stream] == [str(pictures[0]), str(pictures[1])]
    [(source, error)] = errors
    assert source == broken
    assert str(broken) in str(error)
    with pytest.raises(ImageError, match=r"broken\.png cannot be read"):
        predictor(inputs)


@pytest.mark.parametrize(
    ("x", "error", "words"),
    [
        ("no/such.png", ImageError, "no/such.png cannot be read: No such file"),
        ("no/such*.png", DataError, "fits no image file"),
        ("ftp://a.b/c.png", ImageError, "begins with http:// or https://"),
        (b"<html>", ImageError, "of 6 bytes cannot be read: it is a web page"),
        (3, DataError, "An input of type int is no image"),
        (torch.zeros(3, 4, 4), DataError, "An input of type Tensor is no image"),
        ({"a.png": 1}, DataError, "An input of type dict is no image"),
        (np.zeros((4, 4, 2), np.uint8), ImageError, "an array is"),
        (np.zeros((4, 4, 3)), ImageError, "in float64 cannot be read"),
        (np.zeros((0, 4, 3), np.uint8), ImageError, "an array is"),
        (np.zeros((4, 4), np.uint16), ImageError, "grey of more than 8 bits"),
    ],
)
def test_what_is_no_image_is_named(predictor, x, error, words):
    with pytest.raises(error, match=words):
        predictor(x)


def test_an_empty_folder_is_named(predictor, tmp_path):
    (tmp_path / "notes.txt").write_text("no picture")
    with pytest.raises(DataError, match="holds no image file"):
        predictor(tmp_path)


@pytest.mark.parametrize(
    ("mode", "size"), [("L", (9, 7)), ("RGBA", (9, 7)), ("CMYK", (9, 7)), ("1", (1, 1))]
)
def test_images_of_any_mode_and_size(predictor, tmp_path, mode, size):
    Image.new(mode, size).save(tmp_path / "a.tif")
    prediction = predictor(tmp_path / "a.tif")
    assert (prediction.width, prediction.height) == size


def test_an_image_of_which_resizing_leaves_nothing_is_named(model, predictor):
    # Sides up to 128: of 1 x 256 the shorter one keeps half a pixel, which rounds to one.
    assert predictor(np.zeros((1, 256, 3), np.uint8)).width == 256
    long = np.zeros((257, 1), np.uint8)
    with pytest.raises(ImageError, match="1 x 257 pixels: resized to at most 128 its shorter"):
        predictor(long)
    assert Predictor(model, 0.0, device="cpu", tiles=100)(long).height == 257


def test_images_are_turned_upright_as_in_training(predictor, pictures, tmp_path):
    with Image.open(pictures[2]) as image:
        exif = image.getexif()
        exif[274] = 6
        image.save(tmp_path / "turned.png", exif=exif)
        upright = image.rotate(-90, expand=True)
    prediction = predictor(tmp_path / "turned.png")
    assert (prediction.height, prediction.width) == (90, 50)
    assert_equal(prediction, predictor(upright), path=False)


def test_an_image_of_too_many_pixels_is_not_decoded(model, pictures):
    predictor = Predictor(model, device="cpu", max_pixels=64 * 80 - 1)
    with pytest.raises(ImageError, match="80 x 64 pixels, more than the 5119"):
        predictor(pictures[0])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"classes": ["disk"]}, "no class 'disk'. Did you mean 'disc'?"),
        ({"classes": "disc"}, "must be a list of names"),
        ({"classes": 5}, "classes 5 must be a list of names"),
        ({"classes": [1]}, "classes: 1 is no name of a class"),
        ({"threshold": "x"}, "threshold 'x' must be a number, at least 0"),
        ({"tiles": True}, "tiles True must be a side in pixels"),
        ({"device": None}, "device None must be auto"),
        ({"threshold": 1.5}, "threshold 1.5 must be"),
        ({"threshold": float("nan")}, "threshold nan must be"),
        ({"precision": "float8"}, "precision 'float8' does not exist"),
        ({"device": "tpu"}, "'tpu' is not one of"),
        ({"tiles": 129}, "at most 128, the model's INPUT.MAX_SIZE_TEST"),
        ({"tiles": 64, "overlap": 0.8}, "overlap 0.8 is a part"),
        ({"max_pixels": -4}, "max_pixels -4 must be at least 0"),
        ({"max_pixels": 1.5}, "max_pixels 1.5 must be a whole number"),
    ],
)
def test_wrong_arguments_are_named(model, arguments, words):
    with pytest.raises(ConfigError, match=words.replace("?", r"\?")):
        Predictor(model, **{"device": "cpu"} | arguments)


@pytest.mark.parametrize("size", ["x", 0, -1, 1.5, None, True])
def test_a_wrong_batch_size_is_named(predictor, pictures, size):
    with pytest.raises(ConfigError, match=rf"batch_size {size!r} must be"):
        predictor(pictures[0], batch_size=size)


@pytest.mark.slow
def test_a_reduced_precision_finds_nearly_the_same(tmp_path, pictures):
    file = write_tiny_model(tmp_path, "mask")
    whole, reduced = (Predictor(file, 0.0, device="cpu", precision=p) for p in (None, "bfloat16"))
    assert whole.cfg.MODEL.INFERENCE.PRECISION == "float32"
    first, second = whole(pictures[0]), reduced(pictures[0])
    assert second.boxes.dtype == np.float32
    assert abs(first.scores[0] - second.scores[0]) < 0.02
    automatic = Predictor(file, device="cpu", precision="auto").cfg.MODEL.INFERENCE.PRECISION
    assert automatic in ("float32", "bfloat16")


def test_the_precision_auto_takes_the_fast_path(model, pictures):
    plain = Predictor(model, 0.0, device="cpu")
    assert plain.path == "plain float32"
    automatic = Predictor(model, 0.0, device="cpu", precision="auto")
    assert automatic.path.split()[0] in ("fused", "folded")
    assert automatic.path.split()[1] == automatic.cfg.MODEL.INFERENCE.PRECISION
    assert len(automatic(pictures[0])) == len(plain(pictures[0]))
    assert Predictor(model, device="cpu", precision="auto", fast=False).path.startswith("plain")


@pytest.mark.slow
@pytest.mark.parametrize("tta", [False, True])
def test_the_fast_path_in_float32_finds_the_same(model, pictures, tta):
    plain, fast = (
        Predictor(model, 0.0, device="cpu", precision="float32", fast=fast, tta=tta)
        for fast in (False, True)
    )
    assert fast.path.endswith("float32")
    for picture in pictures[:3]:
        expected, prediction = plain(picture), fast(picture)
        # With the first weights of a training classes are nearly tied, and may change places.
        assert np.allclose(np.sort(prediction.scores), np.sort(expected.scores), atol=1e-4)


def test_a_model_without_masks_has_none(tmp_path, pictures):
    prediction = Predictor(write_tiny_model(tmp_path, "box"), 0.0, device="cpu")(pictures[0])
    assert len(prediction)
    assert (prediction.rles, prediction.masks, prediction.keypoints) == (None, None, None)
    assert "segmentation" not in prediction.to_coco(1)[0]


@pytest.mark.slow
def test_a_model_of_detectron2s_own_architecture_gives_the_same(tmp_path, model, pictures):
    keys = {"MODEL.META_ARCHITECTURE": "GeneralizedRCNN"}
    own = Predictor(write_tiny_model(tmp_path, **keys), 0.0, device="cpu")
    assert_equal(own(pictures[0]), Predictor(model, 0.0, device="cpu")(pictures[0]))


@pytest.mark.slow
def test_views_of_keypoints_are_mirrored_by_the_names_in_the_file(tmp_path, pictures):
    file = write_tiny_model(tmp_path, "keypoint", **{"TEST.AUG.MIN_SIZES": (64,)})
    assert len(Predictor(file, 0.0, device="cpu", tta=True)(pictures[0]).keypoints)
    nameless = write_tiny_model(tmp_path, "keypoint", Labels(("a", "b", "c")))
    with pytest.raises(ConfigError, match="which keypoints change places"):
        Predictor(nameless, device="cpu", tta=True)


def test_a_model_that_only_proposes_is_refused(tmp_path):
    file = write_tiny_model(tmp_path, "box", **{"MODEL.META_ARCHITECTURE": "ProposalNetwork"})
    with pytest.raises(CheckpointError, match="is a ProposalNetwork, which finds no objects"):
        Predictor(file, device="cpu")


def test_a_gpu_gets_images_of_one_size_at_once(model, pictures, monkeypatch):
    # Here the CPU stands for it.
    predictor, sizes = Predictor(model, 0.0, device="cpu"), []
    predictor.cfg = predictor.cfg.clone()
    predictor.cfg.defrost()
    predictor.cfg.MODEL.DEVICE = "cuda"
    run = predictor._model.forward

    def forward(inputs):
        sizes.append([tuple(x["image"].shape[1:]) for x in inputs])
        return run(inputs)

    monkeypatch.setattr(predictor._model, "forward", forward)
    order = [pictures[i] for i in (0, 1, 3, 2, 4, 5)]
    together = predictor(order, batch_size=2)
    # 50 x 90 becomes 64 x 115, padded to 128; and the other way round.
    assert sizes == [[(64, 80)] * 2, [(64, 80)], [(64, 115)], [(115, 64)], [(64, 80)]]
    assert [p.path for p in together] == list(map(str, order))


def test_grey_of_many_bits_is_drawn_as_the_model_saw_it(tmp_path):
    file = write_tiny_model(tmp_path, "box", **{"INPUT.PIXEL_RANGE": (0, 4095)})
    Image.fromarray(np.full((20, 30), 4095, np.uint16)).save(tmp_path / "a.png")
    prediction = Predictor(file, threshold=1.0, device="cpu")(tmp_path / "a.png")
    assert (prediction.draw() == 255).all()


@pytest.mark.slow
def test_a_run_predicts_what_its_evaluation_wrote(tmp_path, catalog):
    data = write_tiny_coco(tmp_path / "data")
    run = tmp_path / "run"
    assert main(["train", *command_line(data, run)]) == 0
    [results] = run.rglob("coco_instances_results.json")
    written = json.loads(results.read_text())
    assert written
    alone = shutil.copy(run / "model_final.pth", tmp_path / "alone.pth")
    for source in (run, alone):
        predictor, entries = Predictor(source, threshold=None, device="cpu"), []
        assert predictor.labels == Labels(CLASSES, (1, 4))
        for image in json.loads(data[0].read_text())["images"]:
            entries += predictor(data[1] / image["file_name"]).to_coco(image["id"])
        assert entries == written


@pytest.mark.slow
def test_memory_is_flat(predictor):
    process = psutil.Process()

    def images(count):
        random = np.random.default_rng(0)
        return (random.integers(0, 256, (24, 32, 3), np.uint8) for _ in range(count))

    sizes = []
    for _ in range(4):
        for _ in predictor.stream(images(100)):
            pass
        gc.collect()
        sizes.append(process.memory_info().rss)
    assert sizes[-1] - sizes[0] < 8 << 20
