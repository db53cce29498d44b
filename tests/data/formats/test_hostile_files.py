"""Broken and hostile files of each format: one sentence each, before memory is taken."""

import base64
import json
import multiprocessing
import resource
import zlib

from maskrcnn_repro.data.formats.convert import Request, convert
from maskrcnn_repro.errors import UserError

import pytest
from PIL import Image

from tests.helpers.label_files import blank, converted, lost, written
from tests.helpers.peak_memory import status

CATEGORY = [{"id": 1, "name": "cat"}]
IMAGE = [{"id": 1, "file_name": "a.png", "width": 20, "height": 10}]
BOX = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 5, 5]}
DOCTYPE = '<!DOCTYPE a [<!ENTITY b "bbbbbbbb">]><annotations>&b;</annotations>'
NESTED = "[" * 100_000
CVAT = '<annotations><image name="a.png" width="20" height="10">{}</image></annotations>'
VIA = "filename,region_id,region_shape_attributes,region_attributes\n"
TASK = {"data": {"image": "a.png"}, "annotations": [{"result": []}]}


def coco(**fields):
    return {"images": IMAGE, "annotations": [BOX], "categories": CATEGORY, **fields}


def labelme(**fields):
    return {"shapes": [], "imagePath": "a.png", **fields}


def result(**fields):
    return [{**TASK, "annotations": [{"result": [{"type": "x", **fields}]}]}]


CASES = {
    # name of the file, content, words of the sentence
    "empty": ("a.json", "", "is no JSON"),
    "cut off": ("a.json", '{"images": [', "is no JSON"),
    "nested": ("a.json", NESTED, "is no JSON"),
    "no format": ("a.json", {"a": 1}, "is of no format that is read"),
    "archive": ("a.zip", "PK", "is an archive; unpack it"),
    "coco image twice": ("a.json", coco(images=IMAGE * 2), "its id '1' is that of another image"),
    "coco class twice": (
        "a.json",
        coco(categories=[*CATEGORY, {"id": 1, "name": "dog"}]),
        "its id 1 is that of 'cat'",
    ),
    "coco no image": ("a.json", coco(annotations=[{**BOX, "image_id": 7}]), "image_id 7 does not"),
    "coco no class": ("a.json", coco(annotations=[{**BOX, "category_id": 7}]), "category_id 7"),
    "coco no name": ("a.json", coco(images=[{"id": 1}]), "images[0] has no 'file_name'"),
    "coco list": ("a.json", coco(images=[[]]), "images[0] is [], not an object"),
    "coco bool id": (
        "a.json",
        coco(images=[{**IMAGE[0], "id": True}]),
        "'id' is True, not of type",
    ),
    "labelme points": (
        "a.json",
        labelme(shapes=[{"label": "a", "points": [[1, "2"]]}]),
        "shape 1: [1, '2'] is no point",
    ),
    "labelme no path": ("a.json", {"shapes": [], "imagePath": 7}, "'imagePath' is 7"),
    "via no name": ("a.json", {"_via_img_metadata": {"a": {}}}, "has no 'filename'"),
    "via csv json": ("a.csv", VIA + 'a.png,0,"{",{}\n', "is no CSV of VIA"),
    "via csv column": ("a.csv", "region_shape_attributes\n{}\n", "is no CSV of VIA: 'region_id'"),
    "via attributes": (
        "a.csv",
        VIA + 'a.png,0,"{""name"": ""rect""}","{""x"": ""1"", ""y"": ""2""}"\n',
        "--attribute NAME of ['x', 'y']",
    ),
    "cvat doctype": ("a.xml", DOCTYPE, "has a document type (DOCTYPE)"),
    "cvat cut off": ("a.xml", "<annotations><image", "is no XML"),
    "cvat other": ("a.xml", "<html><annotations/></html>", "begins with <html>"),
    "cvat video": ("a.xml", '<annotations><track id="0"/></annotations>', "CVAT for video"),
    "cvat size": ("a.xml", '<annotations><image name="a" width="nan"/></annotations>', "'width'"),
    "cvat points": ("a.xml", CVAT.format('<polygon label="a" points="1;2"/>'), "are no points"),
    "cvat rle": (
        "a.xml",
        CVAT.format('<mask label="a" rle="x" left="0" top="0" width="1" height="1"/>'),
        "its 'rle' is no list of whole numbers",
    ),
    "studio predictions": (
        "a.json",
        [{"data": {"image": "a.png"}, "predictions": [{"result": []}]}],
        "--predictions",
    ),
    "studio no image": ("a.json", [{**TASK, "data": {}}], "names no image"),
    "studio size": (
        "a.json",
        result(value={"points": [], "labels": ["a"]}, original_width="3"),
        "'original_width' is '3'",
    ),
    "yolo no names": ("data.yaml", "train: x\n", "has no 'names'"),
    "yolo alias": ("data.yaml", "a: &a [1]\nb: [*a, *a]\nnames: [c]\n", "YAML alias"),
    "yolo no yaml": ("data.yaml", "names: [\n", "is no YAML"),
    "yolo code": ("data.yaml", "names: !!python/object/apply:os.getcwd []\n", "is no YAML"),
    "yolo folder": ("data.yaml", "names: [a]\ntrain: x\n", "'x', which does not exist below"),
    "yolo parts": ("data.yaml", "names: [a]\n", "none of 'train', 'val' and 'test'"),
}


@pytest.mark.parametrize("name", CASES)
def test_one_sentence(tmp_path, name):
    file, content, words = CASES[name]
    source = tmp_path / "in"
    blank(source / "a.png", 20, 10)
    with pytest.raises(UserError) as error:
        convert(Request(written(source, file, content), tmp_path / "out"))
    assert words in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("9 0.1 0.1 0.2 0.1 0.2 0.2", "a.txt: line 1: its class 9 is none of 0 to 0"),
        ("0.5 0.1 0.1 0.2 0.1 0.2 0.2", "its class 0.5"),
        ("cat 0.1", "'cat 0.1' is no line of numbers"),
    ],
)
def test_yolo_lines(tmp_path, line, words):
    blank(tmp_path / "images" / "a.png", 20, 10)
    written(tmp_path, "labels/a.txt", line)
    written(tmp_path, "classes.txt", "cat\n")
    with pytest.raises(UserError, match=words.replace("'", ".")):
        convert(Request(tmp_path, tmp_path / "out"))


def test_a_broken_file_among_labelmes_is_named(tmp_path):
    blank(tmp_path / "a.png", 20, 10)
    written(tmp_path, "a.json", labelme())
    written(tmp_path, "b.json", "{")
    with pytest.raises(UserError, match=r"b\.json is no JSON"):
        convert(Request(tmp_path, tmp_path / "out"))


def test_a_defective_outline_is_left_out_and_named(tmp_path):
    blank(tmp_path / "a.png", 20, 10)
    outlines = [[[1, 1, 5, 1, 5, 5]], [[1, 1, 1e12, 1, 5, 5]], {"size": [9**9, 9], "counts": [0]}]
    objects = [{**BOX, "id": i, "segmentation": o} for i, o in enumerate(outlines, 1)]
    file = written(tmp_path, "a.json", coco(annotations=objects))
    result, trees = converted(file, tmp_path / "out")
    assert len(trees["data"]["annotations"]) == 1
    assert lost(result) == {"outline": 2}
    assert "a.json: annotations[1]: the outline of it reaches to 1e+12" in result.losses.lines()[0]


@pytest.mark.parametrize(
    ("form", "file", "content", "words"),
    [
        ("cocoo", "a.json", coco(), "Did you mean 'coco'?"),
        ("via", "a.json", coco(), "does not look like VGG Image Annotator"),
    ],
)
def test_a_format_that_is_forced(tmp_path, form, file, content, words):
    with pytest.raises(UserError) as error:
        convert(Request(written(tmp_path, file, content), tmp_path / "out", form=form))
    assert words in str(error.value)


def bomb(width, height):
    """A PNG of few bytes whose header promises many pixels."""

    def chunk(kind, content):
        check = zlib.crc32(kind + content).to_bytes(4, "big")
        return len(content).to_bytes(4, "big") + kind + content + check

    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes((8, 0, 0, 0, 0))
    rows = zlib.compress(bytes(1 << 20))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )


def heavy(folder):
    """Files that would take gigabytes if they were decoded before they are checked."""
    side = 100_000
    text = base64.b64encode(bomb(side, side)).decode()
    mask = {"label": "m", "shape_type": "mask", "points": [[0, 0], [9, 9]], "mask": text}
    polygon = {"label": "m", "points": [[0, 0], [9, 0], [9, 9]]}
    rle = f'<mask label="m" left="0" top="0" width="{side}" height="{side}" rle="0,{side**2}"/>'
    sound = '<polygon label="p" points="1,1;9,1;9,9"/>'
    huge = {"size": [side, side], "counts": [0, side**2]}
    brush = {
        "format": "rle",
        "rle": list((4 * side**2 % 2**32).to_bytes(4, "big")),
        "labels": ["m"],
    }
    points = {"points": [[0, 0], [90, 0], [90, 90]], "labels": ["m"]}
    sizes = {"original_width": 20, "original_height": 10}
    results = [{"type": "labels", "value": value, **sizes} for value in (points, brush)]
    contents = {
        "labelme/a.json": labelme(shapes=[polygon, mask]),
        "cvat/a.xml": CVAT.format(sound + rle),
        "coco/a.json": coco(annotations=[BOX, {**BOX, "id": 2, "segmentation": huge}]),
        "studio/a.json": [{**TASK, "annotations": [{"result": results}]}],
    }
    for name, content in contents.items():
        yield written(folder, name, content)
        blank(folder / name.split("/")[0] / "a.png", 20, 10)
    blank(folder / "masks/images/a.png", 20, 10)
    (folder / "masks/masks").mkdir()
    (folder / "masks/masks/a.png").write_bytes(bomb(side, side))
    yield folder / "masks"


def _convert_within(source, out, send):
    limit = status("VmSize") + (256 << 20)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    try:
        _, trees = converted(source, out)
        send.send(len(trees["data"]["annotations"]))
    except UserError as error:
        send.send(str(error))


def test_nothing_is_decoded_before_it_is_checked(tmp_path):
    fork = multiprocessing.get_context("fork")
    for source in list(heavy(tmp_path)):
        receive, send = fork.Pipe()
        process = fork.Process(target=_convert_within, args=(source, source.parent / "out", send))
        process.start()
        process.join(60)
        told = receive.recv() if receive.poll() else f"status {process.exitcode}"
        assert told == 1 or "pixels" in str(told), (source, told)


def test_a_labelme_file_with_no_image_within(tmp_path):
    polygon = {"label": "m", "points": [[0, 0], [9, 0], [9, 9]]}
    text = base64.b64encode(b"no image").decode()
    blank(tmp_path / "a.png", 20, 10)
    written(tmp_path, "a.json", labelme(shapes=[polygon]))
    written(tmp_path, "b.json", labelme(shapes=[polygon], imagePath="b.png", imageData=text))
    result, _ = converted(tmp_path, tmp_path / "out")
    assert lost(result) == {"image-broken": 1}
    assert not (tmp_path / "out/images/embedded/b.png").exists()


def test_names_that_lead_out_of_the_folder_stay_in_it(tmp_path):
    blank(tmp_path / "secret.png", 20, 10)
    blank(tmp_path / "in" / "b.png", 20, 10)
    images = [
        {**IMAGE[0], "file_name": "../secret.png"},
        {**IMAGE[0], "id": 2, "file_name": "b.png"},
    ]
    objects = [BOX, {**BOX, "id": 2, "image_id": 2}]
    file = written(tmp_path / "in", "a.json", coco(images=images, annotations=objects))
    result, trees = converted(file, tmp_path / "out")
    assert lost(result)["image-absent"] == 1
    assert [image["file_name"] for image in trees["data"]["images"]] == ["b.png"]


def test_a_turned_photo_whose_record_has_its_stored_size_is_left_out(tmp_path):
    exif = Image.Exif()
    exif[274] = 6
    Image.new("RGB", (20, 10)).save(tmp_path / "a.jpg", exif=exif)
    blank(tmp_path / "b.png", 20, 10)
    images = [{**IMAGE[0], "file_name": "a.jpg"}, {**IMAGE[0], "id": 2, "file_name": "b.png"}]
    objects = [BOX, {**BOX, "id": 2, "image_id": 2}]
    file = written(tmp_path, "a.json", coco(images=images, annotations=objects))
    result, _ = converted(file, tmp_path / "out")
    assert lost(result)["image-size"] == 1


def test_a_tree_of_a_json_is_parsed_once(tmp_path, monkeypatch):
    from maskrcnn_repro.data.formats import reading

    blank(tmp_path / "a.png", 20, 10)
    for number in range(3):
        written(
            tmp_path,
            f"{number}.json",
            labelme(shapes=[{"label": "m", "points": [[0, 0], [9, 0], [9, 9]]}]),
        )
    read, paths = reading.read_json, []
    monkeypatch.setattr(reading, "read_json", lambda path: paths.append(path.name) or read(path))
    converted(tmp_path, tmp_path / "out")
    assert sorted(set(paths)) == ["0.json", "1.json", "2.json"]
    assert len(paths) <= 4  # the first is read for its format, and again


def test_the_source_is_never_written_over(tmp_path):
    blank(tmp_path / "a.png", 20, 10)
    file = written(tmp_path, "data.json", coco())
    before = json.loads(file.read_text())
    with pytest.raises(UserError, match="is the file itself that is read"):
        convert(Request(file, tmp_path))
    assert json.loads(file.read_text()) == before
