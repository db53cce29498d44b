"""Configuration: the keys of Detectron2 with their defaults, files over them, and constructors from them."""

import json

import maskrcnn_repro  # noqa: F401

import pytest
from detectron2.config import CfgNode, configurable, get_cfg, global_cfg, set_global_cfg

from tests.helpers.paths import STORED


def _flat(node, prefix=""):
    for key, value in node.items():
        if isinstance(value, CfgNode):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", repr(value)  # tells lists from tuples and 1 from 1.0


def test_every_key_value_and_type_is_detectron2s():
    stored = json.loads((STORED / "detectron2_defaults.json").read_text())
    assert dict(_flat(get_cfg())) == stored


def test_each_configuration_is_a_copy():
    changed = get_cfg()
    changed.MODEL.PIXEL_MEAN[0] = -1.0
    changed.SOLVER.MAX_ITER = 7
    assert get_cfg().MODEL.PIXEL_MEAN[0] == 103.53
    assert get_cfg().SOLVER.MAX_ITER == 40000


def test_a_file_inherits_from_its_base_beside_it(tmp_path):
    (tmp_path / "base.yaml").write_text(
        "VERSION: 2\nMODEL: {MASK_ON: true, RESNETS: {DEPTH: 101, NORM: GN}}\n"
    )
    child = tmp_path / "child.yaml"
    child.write_text(
        "_BASE_: base.yaml\nMODEL: {RESNETS: {DEPTH: 18}}\nINPUT: {MIN_SIZE_TRAIN: [64, 96]}\n"
    )
    cfg = get_cfg()
    cfg.merge_from_file(str(child))
    assert (cfg.MODEL.MASK_ON, cfg.MODEL.RESNETS.DEPTH, cfg.MODEL.RESNETS.NORM) == (True, 18, "GN")
    assert cfg.INPUT.MIN_SIZE_TRAIN == (64, 96)  # a YAML list where the default is a tuple


def test_what_is_dumped_can_be_read_again(tmp_path):
    cfg = get_cfg()
    cfg.SOLVER.STEPS = (3, 5)
    (tmp_path / "dumped.yaml").write_text(cfg.dump())
    again = get_cfg()
    again.merge_from_file(str(tmp_path / "dumped.yaml"))
    assert again.SOLVER.STEPS == (3, 5)
    assert (again.SOLVER, again.INPUT, again.TEST) == (cfg.SOLVER, cfg.INPUT, cfg.TEST)


def test_a_list_of_keys_and_values_is_merged():
    cfg = get_cfg()
    cfg.merge_from_list(["SOLVER.BASE_LR", "0.5", "DATASETS.TRAIN", "('a', 'b')"])
    assert cfg.SOLVER.BASE_LR == 0.5
    assert cfg.DATASETS.TRAIN == ("a", "b")


def test_unknown_keys_and_wrong_types_are_refused(tmp_path):
    file = tmp_path / "wrong.yaml"
    file.write_text("VERSION: 2\nMODEL: {MASKON: true}\n")
    with pytest.raises(KeyError, match=r"MODEL\.MASKON"):
        get_cfg().merge_from_file(str(file))
    with pytest.raises(ValueError, match=r"SOLVER\.MAX_ITER"):
        get_cfg().merge_from_list(["SOLVER.MAX_ITER", "many"])


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises((FileNotFoundError, AssertionError), match=r"absent\.yaml"):
        get_cfg().merge_from_file(str(tmp_path / "absent.yaml"))


@pytest.mark.embedded_only
@pytest.mark.parametrize("version", [1, 3])
def test_files_for_other_versions_are_refused(tmp_path, version):
    file = tmp_path / "other.yaml"
    file.write_text(f"VERSION: {version}\n")
    with pytest.raises(ValueError, match=rf"other\.yaml has VERSION {version}.*has 2"):
        get_cfg().merge_from_file(str(file))


@pytest.mark.embedded_only
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            "OUTPUT_DIR: !!python/object/apply:os.mkdir [ran]",
            "a.yaml: .*python/object/apply:os.mkdir",
        ),
        ("OUTPUT_DIR: !!python/name:os.mkdir", "python/name:os.mkdir"),
        ("_BASE_: a.yaml", "a.yaml refers to itself"),
        ("SOLVER: &s {MAX_ITER: *s}", "a.yaml refers to itself"),
        ("a: [", "a.yaml: while parsing"),
    ],
)
def test_a_file_that_runs_code_or_never_ends_is_refused(tmp_path, monkeypatch, content, words):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "a.yaml"
    file.write_text(content)
    with pytest.raises(ValueError, match=words) as caught:
        get_cfg().merge_from_file(str(file), allow_unsafe=True)
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["a.yaml"]


@pytest.mark.embedded_only
def test_tuples_pass_as_tags(tmp_path):
    (tmp_path / "a.yaml").write_text("VERSION: 2\nSOLVER: {STEPS: !!python/tuple [7, 8]}")
    cfg = get_cfg()
    cfg.merge_from_file(str(tmp_path / "a.yaml"), allow_unsafe=True)
    assert cfg.SOLVER.STEPS == (7, 8)


def test_a_frozen_configuration_does_not_change():
    cfg = get_cfg()
    cfg.freeze()
    with pytest.raises(AttributeError, match=r"SEED.*immutable"):
        cfg.SEED = 1


def test_the_global_configuration_is_one_object():
    before = dict(global_cfg)
    try:
        set_global_cfg(CfgNode({"A": {"B": 3}}))
        assert global_cfg.A.B == 3
    finally:
        set_global_cfg(CfgNode(before))


class Layer:
    @configurable
    def __init__(self, size, *, depth=1):
        self.size, self.depth = size, depth

    @classmethod
    def from_config(cls, cfg):
        return {"size": cfg.SIZE}


CFG = CfgNode({"SIZE": 8})


@pytest.mark.parametrize(
    ("args", "kwargs", "expected"),
    [
        ((3,), {}, (3, 1)),
        ((), {"size": 3, "depth": 2}, (3, 2)),
        ((CFG,), {}, (8, 1)),
        ((), {"cfg": CFG}, (8, 1)),
        ((CFG,), {"depth": 5}, (8, 5)),  # unknown to from_config, so it goes to __init__
        ((CFG,), {"size": 4}, (4, 1)),  # overwrites what from_config says
    ],
)
def test_arguments_come_from_the_call_then_from_the_configuration(args, kwargs, expected):
    layer = Layer(*args, **kwargs)
    assert (layer.size, layer.depth) == expected


def test_from_config_of_a_subclass_may_take_more():
    class Wide(Layer):
        @classmethod
        def from_config(cls, cfg, factor, **kwargs):
            return {"size": cfg.SIZE * factor, **kwargs}

    wide = Wide(CFG, 3, depth=9)
    assert (wide.size, wide.depth) == (24, 9)


def test_a_function_can_be_configurable():
    @configurable(from_config=lambda cfg: {"size": cfg.SIZE})
    def double(size):
        return 2 * size

    assert double(3) == 6
    assert double(CFG) == 16
    assert double(CFG, size=1) == 2


def test_misuse_of_configurable_is_explained():
    class NoFromConfig:
        @configurable
        def __init__(self):
            pass

    class WrongName:
        @configurable
        def __init__(self):
            pass

        @classmethod
        def from_config(cls, config):
            return {}

    class NoClassmethod:
        @configurable
        def __init__(self):
            pass

        def from_config(self, cfg):
            return {}

    with pytest.raises(AttributeError, match="from_config"):
        NoFromConfig()
    with pytest.raises(TypeError, match="'cfg'"):
        WrongName(CFG)
    with pytest.raises(TypeError, match="classmethod"):
        NoClassmethod()
    with pytest.raises(AssertionError):
        configurable(lambda x: x)
