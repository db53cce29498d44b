"""Surface coordinates: COCO's format, the mirror, the generated bodies by hand, and how they reach a model."""

import json
import pickle
from pathlib import Path

from maskrcnn_repro.config import load_config
from maskrcnn_repro.data import prepare_data
from maskrcnn_repro.data.densepose import smpl, truth
from maskrcnn_repro.data.densepose.annotation import SIDE, SurfacePoints
from maskrcnn_repro.data.densepose.targets import SurfaceTargets
from maskrcnn_repro.data.loader import training_records
from maskrcnn_repro.data.mapper import TrainMapper
from maskrcnn_repro.data.synthetic.draws import Draws
from maskrcnn_repro.data.synthetic.mini_people import MINI_PEOPLE, coordinates
from maskrcnn_repro.data.synthetic.mini_people.body import METRES, body_mirror, body_surface
from maskrcnn_repro.data.synthetic.mini_people.coordinates import Cylinder, cylinders
from maskrcnn_repro.data.synthetic.mini_people.figures import CHARTS, EIGHTHS, draw_figure
from maskrcnn_repro.data.synthetic.mini_people.scenes import draw_scene
from maskrcnn_repro.data.synthetic.writing import digest
from maskrcnn_repro.errors import ConfigError, DataError

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data import transforms as T
from pycocotools.coco import COCO

import maskrcnn_family

CONFIG = Path(maskrcnn_family.__file__).parent / "densepose" / "config.yaml"
COUNT = 5


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The first images of a split, and the file of their surface coordinates."""
    root = tmp_path_factory.mktemp("cache")
    data = MINI_PEOPLE.generate(root, "val", 0, COUNT)
    before = digest(data)
    file = MINI_PEOPLE.generate_surfaces(root, "val", 0, COUNT)
    assert digest(data) == before
    return data, file


# --- COCO's format


def person(**changes):
    fields = {
        "dp_x": [0.0, 64.0],
        "dp_y": [8, 256],
        "dp_I": [0, 3],
        "dp_U": [0, 0.25],
        "dp_V": [0, 1],
    }
    return fields | changes


def test_fields_are_read_and_written_as_they_are():
    parts = np.zeros((SIDE, SIDE), np.uint8)
    parts[:100], parts[100:120, 7:] = 2, 14
    points = np.array([[0.5, 255.25, 3, 0.125, 1], [256, 0, 0, 0, 0]])
    fields = json.loads(json.dumps(SurfacePoints(points, parts).fields()))
    assert fields["dp_I"] == [3, 0]
    assert fields["dp_x"] == [0.5, 256]
    assert [bool(mask) for mask in fields["dp_masks"]] == [n in (2, 14) for n in range(1, 15)]
    read = SurfacePoints.read(fields)
    np.testing.assert_array_equal(read.points, points)
    np.testing.assert_array_equal(read.parts, parts)


def test_an_annotation_without_points_has_no_surface_and_masks_may_be_missing():
    assert SurfacePoints.read({"bbox": [0, 0, 1, 1]}) is None
    assert SurfacePoints.read(person()).parts is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dp_U": [0]}, "different lengths: dp_x 2, dp_y 2, dp_I 2, dp_U 1, dp_V 2"),
        ({"dp_V": [0, 1.5]}, r"dp_V 1.5 is not in \[0, 1\]"),
        ({"dp_x": [float("nan"), 1]}, r"dp_x nan is not in \[0, 256\]"),
        ({"dp_I": ["arm", 1]}, "cannot be read"),
        ({"dp_I": [1.7, 2]}, "dp_I 1.7 is no number of a chart"),
        ({"dp_x": [0, 10**400]}, "cannot be read: int too large"),
        (
            {"dp_masks": [{"size": [9, 9], "counts": "0"}]},
            r"mask 1 of dp_masks has the size \[9, 9\]",
        ),
    ],
)
def test_wrong_fields_are_named(changes, message):
    with pytest.raises(DataError, match=f"Annotation 5 of image 7.*{message}"):
        SurfacePoints.read({"id": 5, "image_id": 7} | person(**changes))


def test_a_missing_field_is_named():
    fields = person()
    del fields["dp_I"]
    with pytest.raises(DataError, match="has dp_x, but no dp_I"):
        SurfacePoints.read(fields)


# --- the generated bodies


def test_v_turns_with_the_body_and_u_goes_along():
    arm = Cylinder((0.0, 0.0), (0.0, 80.0), 10.0, 1.0)
    x, y = np.array([0.0, 10, -10, 5, 0]), np.array([0.0, 40, 40, 80, 120])
    u, v = arm.coordinates(x, y, yaw=0)
    assert u.tolist() == [0, 0.5, 0.5, 1, 1]
    # The middle is the front; the edges are a quarter of the way round; half of the radius is 30 degrees.
    assert v == pytest.approx([0.5, 0.75, 0.25, 0.5 + 30 / 360, 0.5], abs=1e-4)
    # Turned to the right of the image, its right side faces the viewer.
    assert arm.coordinates(x, y, yaw=60)[1] == pytest.approx(v - 60 / 360)
    # A raised arm is seen from the same side, upside down; one to the side does not turn about itself.
    raised = Cylinder((0.0, 80.0), (0.0, 0.0), 10.0, -1.0)
    assert raised.coordinates(x, y, 60)[1][1] == pytest.approx(0.25 + 60 / 360)
    assert Cylinder((0.0, 0.0), (80.0, 0.0), 10.0, 0.0).coordinates(x, y, 60)[1][0] == 0.5


def test_points_lie_on_their_charts(small):
    data, file = small
    coco = COCO(str(file))
    plain = COCO(str(data / "instances.json"))
    for image in range(1, COUNT + 1):
        scene = draw_scene(Draws(0, 1, image))
        for index, annotation in enumerate(coco.imgToAnns[image], start=1):
            same = plain.anns[annotation["id"]]
            assert {key: annotation[key] for key in same} == same
            shape = scene.people[index - 1]
            if not shape.is_labelled:
                assert "dp_x" not in annotation
                continue
            surface = SurfacePoints.read(annotation)
            left, top, width, height = annotation["bbox"]
            column = (left + surface.points[:, 0] * width / SIDE).astype(int)
            row = (top + surface.points[:, 1] * height / SIDE).astype(int)
            assert (scene.owner[row, column] == index).all()
            x0, y0, shown = coordinates.charts_of(shape.figure)
            assert (shown[row - y0, column - x0] == surface.points[:, 2]).all()
            cells = np.minimum((surface.points[:, :2] + 0.5).astype(int), SIDE - 1).T
            assert (surface.parts[cells[1], cells[0]] == surface.points[:, 2]).mean() > 0.9
            counts = np.bincount(surface.points[:, 2].astype(int))
            assert counts.max() <= coordinates.MOST_POINTS


def test_the_first_images_have_the_same_coordinates_everywhere(small):
    tree = json.loads(small[1].read_text())
    fields = [a for a in tree["annotations"] if "dp_x" in a]
    sums = {name: round(sum(sum(a[f"dp_{name}"]) for a in fields), 3) for name in "xyIUV"}
    assert sums == {"x": 136550.193, "y": 144853.071, "I": 6324, "U": 684.208, "V": 560.757}


def test_a_mirrored_body_has_the_mirrored_coordinates():
    figure = draw_figure(Draws(5, 0, 3), 100, (90 * EIGHTHS, 150 * EIGHTHS), (90, 90, 90))
    mirror, height = body_mirror(), 160
    x, y = np.array([700.0, 650, 720]), np.array([500.0, 700, 900])
    for name, body in zip(CHARTS, cylinders(figure), strict=True):
        flipped = Cylinder(
            (height - body.start[0], body.start[1]),
            (height - body.end[0], body.end[1]),
            body.radius,
            body.upright,
        )
        u, v = flipped.coordinates(height - x, y, -figure.yaw)
        chart = np.full(3, CHARTS.index(name) + 1)
        ours = mirror.points(chart, *body.coordinates(x, y, figure.yaw))
        assert ours[1] == pytest.approx(u)
        assert ours[2] == pytest.approx(v)
        other = CHARTS[ours[0][0] - 1]
        assert {name[:4], other[:4]} in ({"left", "righ"}, {name[:4]})
        assert name.partition("_")[2] == other.partition("_")[2]


def test_mirroring_twice_changes_nothing():
    parts = np.random.default_rng(0).integers(0, 15, (SIDE, SIDE)).astype(np.uint8)
    surface = SurfacePoints(np.array([[10, 20, 3, 0.25, 0.75], [0, 1, 0, 0, 0.0]]), parts)
    mirrored = surface.mirrored(body_mirror())
    assert mirrored.points[0].tolist() == [246, 20, 4, 0.25, 0.25]
    again = mirrored.mirrored(body_mirror())
    np.testing.assert_array_equal(again.parts, parts)
    assert again.points[:, :4] == pytest.approx(surface.points[:, :4])


def test_distances_go_over_the_body():
    body = body_surface()
    place = {name: number for number, name in enumerate(CHARTS, start=1)}

    def vertex(chart, u, v=0.5):
        return body.closest(np.array([place[chart]]), np.array([u]), np.array([v]))[0]

    def distance(*ends):
        a, b = (np.array([vertex(*end)]) for end in ends)
        assert body.distance(a, b) == body.distance(b, a)
        return body.distance(a, b)[0] / METRES

    assert distance(("torso", 0.5), ("torso", 0.5)) == 0
    # Along a thigh, and half way round it.
    assert distance(("left_thigh", 0.0), ("left_thigh", 1.0)) == pytest.approx(235)
    half = np.pi * 50 * 11 / 12
    assert distance(("left_thigh", 0.0, 0.02), ("left_thigh", 0.0, 0.5)) == pytest.approx(half)
    # Elbow to elbow: two upper arms, and both shoulders.
    ends = ("left_forearm", 0.0), ("right_forearm", 0.0)
    assert distance(*ends) == pytest.approx(2 * (165 + 118))
    # From the top of the head to a toe: head, torso, hip, thigh, shin, foot.
    assert distance(("head", 0.0), ("right_foot", 1.0)) == pytest.approx(
        222 + 300 + 75 + 235 + 225 + 75
    )
    assert body.closest(np.array([0]), np.zeros(1), np.zeros(1)).tolist() == [-1]


# --- how they reach a model


@pytest.fixture
def data_set(small, monkeypatch):
    """Register the small set as another name than that of the generated family."""
    data, file = small
    name = "few_people"
    metadata = {k: v for k, v in MINI_PEOPLE.metadata.items() if k == "densepose_surface"}
    MetadataCatalog.get(name).set(
        json_file=str(data / "instances.json"),
        image_root=str(data / "images"),
        densepose_json=str(file),
        has_rle_masks=True,
        evaluator_type="coco",
        **metadata,
    )
    from detectron2.data.datasets import load_coco_json

    DatasetCatalog.register(
        name, lambda: load_coco_json(str(data / "instances.json"), str(data / "images"), name)
    )
    yield name
    DatasetCatalog.remove(name)
    MetadataCatalog.remove(name)


def config(name, **changes):
    keys = {
        "DATASETS.TRAIN": (name,),
        "DATASETS.TEST": (name,),
        "MODEL.LOAD_PROPOSALS": False,
        "MODEL.ROI_DENSEPOSE_HEAD.NUM_PATCHES": 12,
        "INPUT.MIN_SIZE_TRAIN": (128,),
    } | changes
    return load_config(CONFIG, [word for pair in keys.items() for word in pair])


def test_training_images_bring_them_mirrored_with_the_image(data_set):
    cfg = config(data_set)
    prepare_data(cfg)
    records = training_records(cfg)
    record = next(r for r in records if len(r["annotations"]) > 1)
    annotated = [a for a in record["annotations"] if not a["iscrowd"]]
    mapper = TrainMapper(cfg, True)
    targets = []
    for flips in (0.0, 1.0):
        mapper.augmentations = T.AugmentationList([T.RandomFlip(prob=flips)])
        instances = mapper(record)["instances"]
        assert len(instances) == len(annotated)
        targets.append(instances.gt_densepose)
    plain, flipped = targets
    assert plain.annotated.tolist() == ["dp_x" in a for a in annotated]
    present = plain.points[..., 2] > 0
    assert torch.equal(present, flipped.points[..., 2] > 0)
    assert torch.allclose(flipped.points[..., 0][present], 256 - plain.points[..., 0][present])
    assert torch.allclose(flipped.points[..., 4][present], 1 - plain.points[..., 4][present])
    assert torch.equal(flipped.parts.flip(2) > 0, plain.parts > 0)


def test_a_training_without_mirrored_images_needs_no_mirror(data_set, monkeypatch):
    cfg = config(data_set, **{"INPUT.RANDOM_FLIP": "none"})
    prepare_data(cfg)
    monkeypatch.setattr("maskrcnn_repro.data.mapper.mirror_of", lambda name: pytest.fail("read"))
    instances = TrainMapper(cfg, True)(training_records(cfg)[0])["instances"]
    assert len(instances.gt_densepose) == len(instances) > 0


def test_images_without_people_bring_none(data_set):
    cfg = config(data_set)
    record = {**training_records(cfg)[0], "annotations": []}
    instances = TrainMapper(cfg, True)(record)["instances"]
    assert len(instances) == len(instances.gt_densepose) == 0


def test_targets_are_chosen_joined_and_moved():
    surfaces = [SurfacePoints.read(person()), None]
    targets = SurfaceTargets.of(surfaces)
    assert targets.points.shape == (2, 2, 5)
    assert targets.annotated.tolist() == [True, False]
    assert targets.has_parts.tolist() == [False, False]
    chosen = targets[torch.tensor([1, 0, 0])]
    assert chosen.annotated.tolist() == [False, True, True]
    assert len(chosen[torch.tensor([False, True, False])]) == 1
    assert len(chosen[:0]) == 0
    joined = SurfaceTargets.cat(
        [SurfaceTargets.of([]), chosen.to("cpu"), SurfaceTargets.of([None])]
    )
    assert joined.annotated.tolist() == [False, True, True, False]
    assert joined.points[1].tolist() == targets.points[0].tolist()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"INPUT.CROP.ENABLED": True}, "INPUT.CROP.ENABLED is True"),
        ({"INPUT.RANDOM_FLIP": "vertical"}, "RANDOM_FLIP 'vertical' does not go with"),
    ],
)
def test_what_coordinates_do_not_follow_is_refused(data_set, changes, message):
    with pytest.raises(ConfigError, match=message):
        prepare_data(config(data_set, **changes))


def test_a_set_without_coordinates_is_refused_before_training(data_set):
    del MetadataCatalog.get(data_set).densepose_json
    with pytest.raises(DataError, match=r"'few_people' has no surface coordinates, .* has\s+dp_x"):
        prepare_data(config(data_set))
    with pytest.raises(DataError, match=r"has no surface coordinates, .* does not exist"):
        prepare_data(config("densepose_coco_2014_train"))


def test_more_charts_than_the_model_has_are_refused(data_set):
    with pytest.raises(DataError, match=r"dp_I \d+, but there are 5 charts"):
        prepare_data(config(data_set, **{"MODEL.ROI_DENSEPOSE_HEAD.NUM_PATCHES": 5}))


# --- the SMPL model's files, of the same layout


@pytest.fixture
def smpl_files(tmp_path):
    scipy_io = pytest.importorskip("scipy.io")
    corner = np.array(
        [1, 2, 3, 2, 4]
    )  # five vertices of charts, four of the body: one lies on a seam
    mesh = {
        "Part_ID_subdiv": [[1], [1], [2], [3], [3]],
        "U_subdiv": [[0.0], [1], [0], [0.5], [1]],
        "V_subdiv": [[0.0], [1], [0], [0.5], [0]],
    }
    scipy_io.savemat(tmp_path / smpl.VERTICES, {k: np.array(v) for k, v in mesh.items()})
    scipy_io.savemat(tmp_path / smpl.SUBDIVISION, {"index": corner[:, None]})
    packed = np.array([[0.1], [0.2], [0.3], [0.4], [0.5], [0.6]], np.float32)
    with (tmp_path / smpl.DISTANCES).open("wb") as file:
        pickle.dump({"Pdist_matrix": packed}, file, protocol=2)
    table = np.empty((1, 24), object)
    for chart in range(24):
        table[0, chart] = np.full((256, 256), chart / 100)
    scipy_io.savemat(tmp_path / smpl.SYMMETRY, {"U_transforms": table, "V_transforms": table + 0.5})
    return tmp_path


def test_distances_of_the_smpl_model_are_the_packed_lower_triangle(smpl_files):
    surface = smpl.smpl_surface(smpl_files)
    vertices = surface.closest(
        np.array([1, 1, 2, 3, 3, 9]), np.array([0, 0.9, 1, 0.4, 1, 0]), np.zeros(6)
    )
    assert vertices.tolist() == [0, 0, 2, 3, 4, -1]
    # Vertices of the body 1 and 2 have the first number, 3 and 1 the second, 3 and 2 the third, 4 and 1 the fourth.
    pairs = np.array([(0, 1), (0, 2), (2, 1), (3, 1), (4, 0), (2, 4)])
    distances = surface.distance(pairs[:, 0], pairs[:, 1])
    assert distances == pytest.approx([0.1, 0.2, 0.3, 0, 0.4, 0.6])
    assert surface.scale[[1, 3, 5, 7, 11, 15, 19, 24]].tolist() == list(smpl._SCALES)
    assert len(surface.names) == 24


def test_the_mirror_of_the_smpl_model_swaps_sides_and_looks_coordinates_up(smpl_files):
    mirror = smpl.smpl_mirror(smpl_files)
    chart, u, v = mirror.points(np.array([0, 2, 3, 24]), np.full(4, 0.25), np.full(4, 0.75))
    assert chart.tolist() == [0, 2, 4, 23]
    assert u == pytest.approx([0.25, 0.01, 0.02, 0.23])
    assert v == pytest.approx([0.75, 0.51, 0.52, 0.73])
    assert mirror.parts[:16].tolist() == [0, 1, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 14, 15]


def test_missing_files_of_the_smpl_model_are_named(tmp_path):
    for read in (smpl.smpl_surface, smpl.smpl_mirror):
        with pytest.raises(DataError, match=r"\.mat does not exist, .* licence of its own"):
            read(tmp_path)


def test_an_unknown_surface_is_named(data_set):
    metadata = MetadataCatalog.get(data_set)
    del metadata.densepose_surface
    metadata.densepose_surface = "smpI"
    with pytest.raises(ConfigError, match=r"'smpI' does not exist. Did you mean 'smpl'"):
        truth.surface_of(data_set)
