"""Config files that no person means well with, or that are no config: one sentence each, in little time and memory."""

import random
import tracemalloc

from maskrcnn_repro.config import config_chain, find_config, load_config
from maskrcnn_repro.engine.checks import check_model
from maskrcnn_repro.errors import ConfigError, UserError

import pytest

BOMB = "a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "\n".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 30)
)
MERGE_BOMB = "a0: &a0 {X: 1}\n" + "\n".join(
    f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 9)}]}}" for i in range(1, 30)
)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("_BASE_: a.yaml", "a.yaml is its own _BASE_"),
        ("_BASE_: 5", "a.yaml:1: its _BASE_ 5 must be the name of a file, or a list"),
        ("_BASE_: [[a.yaml]]", "must be the name of a file"),
        ("SEED: 1\n_BASE_: nowhere.yaml", "a.yaml:2: its _BASE_ 'nowhere.yaml' does not exist"),
        (b"OUTPUT_DIR: caf\xe9", "is not in UTF-8: byte 15 is 0xe9"),
        (b"\x00\x01\x02", "is no YAML"),
        ("SOLVER: &s {MAX_ITER: *s}", "a.yaml:1: a value holds itself, by an alias"),
        ("&a [*a]", "holds itself"),
        ("SOLVER: &s\n  <<: *s", "holds itself"),
        (BOMB, "aliases unfold to over 1000000 values"),
        (MERGE_BOMB, "aliases unfold to over 1000000 values"),
        ("a: " + "[" * 5000, "nests deeper than 50 levels|maximum nesting"),
        ("a: " + "{a: " * 5000, "nests deeper than 50 levels"),
        ("- " * 5000, "nests deeper than 50 levels"),
        ("# " + "x" * 1_000_001, "has over 1000000 bytes"),
        (
            "SOLVER: {MAX_ITER: 1}\nSEED: 1\nSOLVER: {BASE_LR: 1.0}",
            "SOLVER stands in the lines 1 and 3",
        ),
        ("SOLVER:\n  SEED: 1\n  SEED: 2", "SOLVER.SEED stands in the lines 2 and 3"),
        ("5: 3", "a.yaml:1: '5' is no name of a key"),
        ("? [1, 2]\n: 3", "is no name of a key"),
        ("SOLVER: 3", "a.yaml:1: SOLVER is a section of keys and cannot be 3"),
        ("SOLVER:", "SOLVER is a section of keys and cannot be None"),
        ("SOLVER: {MAX_ITER: {A: 1}}", "'SOLVER.MAX_ITER.A' .* does not exist"),
        ("SEED: !!python/object/apply:os.system ['true']", "is no YAML.*os.system"),
        ("SEED: !!timestamp 9999-99-99", "is no YAML"),
        ("SEED: !!int ''", "is no YAML"),
        ("MODEL: {MASK_ON: !!bool maybe}", "is no YAML"),
        ("SEED: 1\n---\nSEED: 2", "is no YAML"),
        ("SEED: *x", "is no YAML"),
        ("a: [1", "is no YAML"),
    ],
)
def test_a_bad_file_is_refused_in_one_sentence(tmp_path, content, words):
    file = tmp_path / "a.yaml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    tracemalloc.start()
    with pytest.raises(ConfigError, match=words) as caught:
        load_config(file)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "\n" not in str(caught.value)
    assert peak < 20e6


def test_a_cycle_of_bases_is_named(tmp_path):
    for name, base in (("a", "b"), ("b", "c"), ("c", "a")):
        (tmp_path / f"{name}.yaml").write_text(f"_BASE_: {base}.yaml")
    with pytest.raises(ConfigError, match=r"a.yaml is its own _BASE_, by way of .*c.yaml"):
        load_config(tmp_path / "a.yaml")


def test_a_base_reached_twice_is_no_cycle_and_a_chain_of_bases_has_a_limit(tmp_path):
    (tmp_path / "0.yaml").write_text("SEED: 3")
    for level in range(1, 30):
        (tmp_path / f"{level}.yaml").write_text(f"_BASE_: [{level - 1}.yaml, {level - 1}.yaml]")
    assert load_config(tmp_path / "3.yaml").SEED == 3
    with pytest.raises(ConfigError, match="chain has over 1000 files"):
        load_config(tmp_path / "29.yaml")


@pytest.mark.parametrize("content", ["", "# nothing", "[]", "---", "SOLVER: {}"])
def test_a_file_without_keys_sets_none(tmp_path, content):
    (tmp_path / "a.yaml").write_text(content)
    assert load_config(tmp_path / "a.yaml") == load_config("")


def test_merged_mappings_may_be_overridden(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text("MODEL:\n  RPN: &n {NMS_THRESH: 0.5, LOSS_WEIGHT: 2.0}\nSOLVER: {}\n")
    assert config_chain(file)[-1][1]["MODEL"]["RPN"] == {"NMS_THRESH": 0.5, "LOSS_WEIGHT": 2.0}
    file.write_text(
        "MODEL:\n  ROI_BOX_HEAD: &n\n    POOLER_RESOLUTION: 5\n    NORM: GN\n"
        "  ROI_MASK_HEAD:\n    <<: *n\n    POOLER_RESOLUTION: 6\n"
    )
    cfg = load_config(file)
    assert (
        cfg.MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION,
        cfg.MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION,
    ) == (5, 6)
    assert cfg.MODEL.ROI_MASK_HEAD.NORM == "GN"


def damaged(content, draw):
    """Return bytes of a file with some removed, repeated, or replaced by those that mean something in YAML."""
    content = bytearray(content)
    for _ in range(draw.randrange(1, 6)):
        place = draw.randrange(len(content))
        length = draw.randrange(1, 12)
        part = draw.choice(
            [
                b"",
                content[place : place + length] * 2,
                bytes([draw.randrange(256)]),
                draw.choice(TOKENS),
            ]
        )
        content[place : place + length] = part
    return bytes(content)


TOKENS = (
    b"&a ",
    b"*a",
    b"<<: ",
    b"!!int ",
    b"? ",
    b"- ",
    b"[",
    b"}",
    b"\n",
    b": ",
    b"|\n",
    b"'",
    b"\t",
    b"1e9",
    b"~",
    b"%",
)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_a_damaged_config_is_read_or_refused(tmp_path, seed):
    draw = random.Random(seed)
    whole = find_config("mini/mask_rcnn_fpn.yaml").read_bytes()
    file, refused = tmp_path / "a.yaml", 0
    for _ in range(400):
        file.write_bytes(damaged(whole, draw))
        try:
            check_model(load_config(file))
        except UserError as error:
            refused += "\n" not in str(error)
    assert refused > 100
