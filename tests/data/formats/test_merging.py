"""Classes that become one: by hand, all the rest, without rules, and what a wrong rule is told."""

import json

from maskrcnn_repro.data.formats.contents import Contents, Picture, Shape
from maskrcnn_repro.data.formats.merging import merge_classes
from maskrcnn_repro.errors import ConfigError

import pytest

from tests.helpers.commands import convert_data
from tests.helpers.label_files import blank, written


def contents():
    """Four classes: three that the source lists and one that only an object has."""
    labels = ("cat", "cup", "person", "new")
    shapes = [Shape(label, [], "") for label in labels]
    classes = {"person": {"id": 1, "keypoints": ["nose"]}, "cat": {"id": 17}, "cup": {"id": 47}}
    return Contents([Picture([], "", shapes)], classes)


def merged(*rules):
    source = contents()
    merge_classes(source, rules)
    return [shape.label for shape in source.pictures[0].shapes], source.classes


def test_by_hand():
    labels, classes = merged("thing=cat,cup")
    assert labels == ["thing", "thing", "person", "new"]
    assert classes == {"person": {"id": 1, "keypoints": ["nose"]}, "thing": {}, "new": {}}


def test_a_class_that_is_there_keeps_its_fields():
    labels, classes = merged("person=cat,new")
    assert labels == ["person", "cup", "person", "person"]
    assert classes == {"person": {"id": 1, "keypoints": ["nose"]}, "cup": {"id": 47}}


def test_all_others_are_those_that_no_rule_names():
    labels, classes = merged("animal=cat", "person=person", "thing=*")
    assert labels == ["animal", "thing", "person", "thing"]
    assert list(classes) == ["person", "animal", "thing"]
    assert merged("person=cat", "thing=*")[0] == ["person", "thing", "person", "thing"]


def test_without_rules_nothing_changes():
    labels, classes = merged()
    assert labels == ["cat", "cup", "person", "new"]
    assert classes == {**contents().classes, "new": {}}


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        (["thing"], r"--merge 'thing' is to be NEW=OLD\[,OLD...\], such as thing=cup,chair"),
        (["=cat"], "is to be NEW=OLD"),
        (["thing=kat"], "there is no class 'kat'. Did you mean 'cat'[?] There are 'person'"),
        ([" =cat"], "is to be NEW=OLD"),
        (["a=cat", "b=cup,cat"], "--merge 'b=cup,cat': 'cat' was named before; name it once"),
        (["a=*", "b=*"], "was named before"),
    ],
)
def test_a_wrong_rule_is_refused(rules, words):
    with pytest.raises(ConfigError, match=words):
        merged(*rules)


def test_a_name_with_a_comma_stands_in_quotes():
    source = contents()
    source.classes["cup, blue"] = {}
    hint = r"""no class ' blue'.*in double quotes: .*'x="cup, blue"'"""
    with pytest.raises(ConfigError, match=hint):
        merge_classes(source, ["x=cup, blue"])
    merge_classes(source, ['x="cup, blue",cat'])
    assert "x" in source.classes
    assert not {"cup, blue", "cat"} & source.classes.keys()


def test_as_it_is_typed(tmp_path):
    source = tmp_path / "in"
    blank(source / "a.png", 20, 10)
    shapes = [
        {"label": label, "points": [[2, 2], [end, 2], [end, 8]]}
        for label, end in (("dog", 8), ("person", 9), ("cat", 10))
    ]
    written(source, "a.json", {"shapes": shapes, "imagePath": "a.png"})
    words = [str(source), str(tmp_path / "out"), "--merge", "person=person", "--merge", "thing=*"]
    assert convert_data(words) == 0
    tree = json.loads((tmp_path / "out" / "data.json").read_text())
    names = {record["id"]: record["name"] for record in tree["categories"]}
    assert [names[a["category_id"]] for a in tree["annotations"]] == ["thing", "person", "thing"]
