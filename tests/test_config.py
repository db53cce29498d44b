"""``load_config``: what is accepted, and what each mistake is answered with."""

from maskrcnn_repro.config import (
    KEYS,
    add_config,
    configs_folder,
    find_config,
    get_config,
    leaf_keys,
    load_config,
)
from maskrcnn_repro.errors import ConfigError

import pytest
import yaml
from detectron2.config import get_cfg


@pytest.fixture
def config(tmp_path):
    def write(text, name="a.yaml"):
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return write


def get_value(cfg, key):
    for part in key.split("."):
        cfg = cfg[part]
    return cfg


def test_our_keys_come_on_top_of_detectron2s():
    assert set(leaf_keys(get_cfg())) < set(leaf_keys(get_config()))
    assert "TEST.SHEET_IMAGES" in set(leaf_keys(get_config()))


def test_detectron2s_defaults_stay():
    ours, theirs = get_cfg(), get_cfg()
    add_config(ours)
    assert all(get_value(ours, key) == get_value(theirs, key) for key in leaf_keys(theirs))


@pytest.mark.parametrize(("gpu", "device"), [(True, "cuda"), (False, "cpu")])
@pytest.mark.parametrize("opts", [[], ["MODEL.DEVICE", "auto"]])
def test_a_loaded_config_has_a_device_that_is_there(monkeypatch, gpu, device, opts):
    monkeypatch.setattr("torch.cuda.is_available", lambda: gpu)
    assert load_config("", opts).MODEL.DEVICE == device
    assert load_config("", ["MODEL.DEVICE", "cuda:3"]).MODEL.DEVICE == "cuda:3"


def test_a_runs_config_is_read_by_detectron2_and_by_us(config):
    ran = load_config("mini/mask_rcnn_fpn.yaml", ["SOLVER.MAX_ITER", "7"])
    file = config(ran.dump())
    cfg = get_cfg()
    add_config(cfg)
    cfg.merge_from_file(str(file))
    same = [yaml.safe_load(other.dump()) for other in (cfg, load_config(file), ran)]
    assert same[0] == same[1] == same[2]


def test_a_file_overlays_its_base_and_the_command_line_the_file(config):
    config("SOLVER: {MAX_ITER: 5, BASE_LR: 0.5, GAMMA: 0.5}", "base.yaml")
    cfg = load_config(
        config("_BASE_: base.yaml\nSOLVER: {BASE_LR: 0.25}\nVERSION: 2"), ["SOLVER.GAMMA", "0.125"]
    )
    assert (cfg.SOLVER.MAX_ITER, cfg.SOLVER.BASE_LR, cfg.SOLVER.GAMMA) == (5, 0.25, 0.125)


def test_overlays_come_in_order_between_the_file_and_the_command_line(config):
    base = config("SOLVER: {MAX_ITER: 5, BASE_LR: 0.5, GAMMA: 0.5, MOMENTUM: 0.5}\nVERSION: 2")
    first = config("SOLVER: {BASE_LR: 0.25, GAMMA: 0.25, MOMENTUM: 0.25}\nVERSION: 2", "b.yaml")
    second = config("SOLVER: {GAMMA: 0.125, MOMENTUM: 0.125}\nVERSION: 2", "c.yaml")
    cfg = load_config(base, ["SOLVER.MOMENTUM", "0.0"], overlays=[first, second])
    values = (cfg.SOLVER.MAX_ITER, cfg.SOLVER.BASE_LR, cfg.SOLVER.GAMMA, cfg.SOLVER.MOMENTUM)
    assert values == (5, 0.25, 0.125, 0.0)


def test_a_base_may_be_a_config_of_the_project_named_from_anywhere(config):
    cfg = load_config(config("_BASE_: mini/mask_rcnn_fpn.yaml\nSOLVER: {MAX_ITER: 5}"))
    own = load_config("mini/mask_rcnn_fpn.yaml")
    assert cfg.SOLVER.MAX_ITER == 5
    assert own.MODEL == cfg.MODEL


def test_of_several_bases_the_last_wins(config):
    config("SOLVER: {MAX_ITER: 5, GAMMA: 0.5}", "a.yaml")
    config("SOLVER: {MAX_ITER: 6}", "b.yaml")
    cfg = load_config(config("_BASE_: [a.yaml, b.yaml]", "c.yaml"))
    assert (cfg.SOLVER.MAX_ITER, cfg.SOLVER.GAMMA) == (6, 0.5)


def test_tuples_of_older_dumps_are_read(config):
    cfg = load_config(config("SOLVER: {STEPS: !!python/tuple [7, 8]}"))
    assert cfg.SOLVER.STEPS == (7, 8)


def test_no_file_means_the_defaults():
    assert load_config("") == get_config()


def test_values_are_python_literals():
    cfg = load_config("", ["DATASETS.TRAIN", "('a', 'b')", "OUTPUT_DIR", "some/where"])
    assert cfg.DATASETS.TRAIN == ("a", "b")
    assert cfg.OUTPUT_DIR == "some/where"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("SOLVER: {BASE_LRR: 1.0}", "'SOLVER.BASE_LRR' .* Did you mean 'SOLVER.BASE_LR'"),
        ("MODEL: {ROI_HEAD: {NUM_CLASSES: 3}}", "'MODEL.ROI_HEAD"),
        ("SOLVER: {MAX_ITER: many}", "a.yaml:1: SOLVER.MAX_ITER 'many' must be a whole number"),
        ("a: [1", "a.yaml is no YAML"),
        ("- 1\n- 2", r"holds no keys, but '\[1, 2\]'"),
        ("_BASE_: nowhere.yaml", "its _BASE_ 'nowhere.yaml' does not exist, neither .* nor below"),
        ("OUTPUT_DIR: !!python/object/apply:os.getcwd []", "a.yaml is no YAML.*os.getcwd"),
        ("VERSION: 1", "has VERSION 1 of Detectron2's keys, but this is 2"),
    ],
)
def test_mistakes_in_a_file_name_it(config, text, words):
    with pytest.raises(ConfigError, match=words):
        load_config(config(text))


def test_a_mistake_in_a_base_names_the_base(config):
    base = config("SOLVER: {MAX_ITERS: 1}", "base.yaml")
    with pytest.raises(
        ConfigError, match=f"MAX_ITERS.*{base.name}.*Did you mean 'SOLVER.MAX_ITER'"
    ):
        load_config(config("_BASE_: base.yaml"))


@pytest.mark.parametrize("name", ["mini", str(configs_folder())])
def test_a_folder_is_no_config(name):
    with pytest.raises(ConfigError, match=f"'{name}' is a folder: name a .yaml file in it"):
        find_config(name)


@pytest.mark.parametrize(
    ("opts", "words"),
    [
        (["SOLVER.MAX_ITER"], "'SOLVER.MAX_ITER' has no value: overrides come as KEY VALUE pairs"),
        (["SOLVER.MAXITER", "1"], "command line.*Did you mean 'SOLVER.MAX_ITER'"),
        (["NUM_CLASSES", "1"], "Did you mean"),
        (["SOLVER.MAX_ITER", "many"], "command line: .*MAX_ITER|command line: .*many"),
        (["SOLVER", "1"], "command line"),
        (["Solver.max_iter", "1"], "Did you mean 'SOLVER.MAX_ITER'"),
    ],
)
def test_mistakes_on_the_command_line(opts, words):
    with pytest.raises(ConfigError, match=words):
        load_config("", opts)


def test_a_missing_file_is_answered_with_the_ones_that_exist():
    config_name = next(configs_folder().rglob("*.yaml")).relative_to(configs_folder())
    with pytest.raises(ConfigError, match=f"does not exist.*Did you mean '{config_name}'"):
        load_config(str(config_name).replace(".yaml", "x.yaml"))


def test_the_projects_configs_are_found_by_name_from_anywhere(tmp_path, monkeypatch):
    path = next(configs_folder().rglob("*.yaml"))
    monkeypatch.chdir(tmp_path)
    name = path.relative_to(configs_folder())
    assert find_config(name) == find_config(f"configs/{name}") == path


@pytest.mark.parametrize(
    "path",
    sorted(configs_folder().rglob("*.yaml")),
    ids=lambda p: str(p.relative_to(configs_folder())),
)
def test_every_config_of_the_project_loads(path):
    assert load_config(path).VERSION == 2


def test_every_key_of_ours_stands_in_the_table_with_its_type():
    cfg, keys = get_config(), yaml.safe_load(KEYS.read_text(encoding="utf-8"))
    own = set(leaf_keys(cfg)) - set(leaf_keys(get_cfg()))
    assert own == set(keys)
    for name, key in keys.items():
        assert type(get_value(cfg, name)).__name__ == key["type"], name
        assert key["meaning"], name


def test_a_changed_default_stays_in_its_config():
    get_config().MODEL.NARROW_RESNET.NUM_BLOCKS.append(9)
    assert get_config().MODEL.NARROW_RESNET.NUM_BLOCKS == [1, 1, 1]
