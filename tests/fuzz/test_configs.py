"""Config files and KEY VALUE pairs that are nearly right: a config that is read back the same, or a sentence."""

import json

from maskrcnn_repro.config import load_config
from maskrcnn_repro.config.table import key_table
from maskrcnn_repro.engine.checks import check_model

import pytest
import yaml

from tests.fuzz.harness import Reader, fuzz, hypothesis, try_files
from tests.fuzz.mutations import SPECIAL, damaged, st, trees

pytestmark = pytest.mark.slow
TREE = {
    "_BASE_": "mini/mask_rcnn_fpn.yaml",
    "MODEL": {
        "MASK_ON": True,
        "DEVICE": "cpu",
        "ANCHOR_GENERATOR": {"SIZES": [[32], [64], [128]]},
        "RPN": {"IOU_THRESHOLDS": [0.3, 0.7], "IN_FEATURES": ["p2", "p3", "p4"]},
        "ROI_HEADS": {"NUM_CLASSES": 8, "NMS_THRESH_TEST": 0.5},
        "RESNETS": {"DEPTH": 50, "DEFORM_ON_PER_STAGE": [False] * 4},
    },
    "DATASETS": {"TRAIN": ["a_train"], "CUSTOM": [["a_train", "a.json", "images"]]},
    "INPUT": {"MIN_SIZE_TRAIN": [64, 80], "RANDOM_FLIP": "horizontal", "CROP": {"ENABLED": False}},
    "SOLVER": {"BASE_LR": 0.01, "STEPS": [10, 20], "MAX_ITER": 30, "WEIGHT_DECAY_BIAS": None},
    "TEST": {"EXPECTED_RESULTS": [["bbox", "AP", 38.5, 0.2]]},
    "OUTPUT_DIR": "output",
    "VERSION": 2,
}
TEXT = yaml.safe_dump(TREE).encode()
PIECES = [
    *(
        "&a",
        "*a",
        "<<: *a",
        "!!python/object/apply:os.mkdir [ran]",
        "!!python/tuple [1, 2]",
        "!!binary aa",
        "!!set {a}",
    ),
    *(
        "\t",
        "- ",
        "? ",
        ": ",
        "|\n",
        "{",
        "}",
        "[",
        "]",
        "%YAML 9.9\n",
        "---\n",
        "...\n",
        "'",
        '"',
        "2024-01-01",
        ".inf",
    ),
    *(
        "1e3",
        "0x1F",
        "0o17",
        "1_000",
        "~",
        "yes",
        "a: &b [*b]",
        "_BASE_: a.yaml\n",
        "_BASE_: [b.yaml, 5]\n",
        "#",
    ),
]


def read(path):
    """The config, which is read back from its dump the same."""
    cfg = load_config(path)
    check(cfg, path)


def check(cfg, path):
    copy = path.with_name("copy.yaml")
    copy.write_text(cfg.dump(), encoding="utf-8")
    assert load_config(copy).dump() == cfg.dump()
    check_model(cfg)


@st.composite
def files(draw):
    kind = draw(st.integers(0, 2))
    if kind == 0:
        return draw(damaged(TEXT))
    tree = draw(trees(TREE))
    try:
        text = yaml.dump(tree, allow_unicode=draw(st.booleans()))
    except UnicodeEncodeError:
        text = repr(tree)
    for piece in draw(st.lists(st.sampled_from(PIECES), max_size=2 if kind == 1 else 0)):
        place = draw(st.integers(0, min(len(text), 1000)))
        text = text[:place] + piece + text[place:]
    return text.encode(
        draw(st.sampled_from(("utf-8", "utf-8", "utf-8", "utf-16", "latin-1"))),
        "surrogatepass" if "\ud800" in text else "replace",
    )


def test_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "b.yaml").write_text("SEED: 3\n")
    # A contradiction names keys.
    try_files(read, tmp_path / "a.yaml", [TEXT], files(), 300, ["a.yaml", *TREE])


def read_pairs(path):
    words = json.loads(path.read_text())
    check(load_config("", words), path)


KEYS = st.sampled_from(sorted(set(key_table()) - {"PLUGINS"}))
NAMES = st.one_of(
    KEYS, KEYS, KEYS.map(str.lower), KEYS.map(lambda key: key[:-1]), st.text(max_size=5)
)
LITERALS = st.recursive(
    st.one_of(SPECIAL, st.sampled_from(["p2", "res5", "horizontal", "auto", 1, 2, 0.5])),
    lambda values: st.one_of(
        st.lists(values, max_size=5),
        st.lists(values, max_size=5).map(tuple),
        st.dictionaries(st.text(max_size=3), values, max_size=2),
    ),
    max_leaves=6,
)
VALUES = st.one_of(
    LITERALS.map(repr),
    LITERALS.map(str),
    st.text(max_size=8),
    st.sampled_from(
        ["1e3", "true", "('tr')", "[" * 500, "(" * 90, "__import__('os').mkdir('ran')", "9" * 5000]
    ),
)


def test_pairs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "pairs.json"

    with Reader(read_pairs) as reader:

        @fuzz(400)
        @hypothesis.given(
            st.lists(st.tuples(NAMES, VALUES).map(list), min_size=1, max_size=3), st.integers(0, 9)
        )
        def run(pairs, odd):
            words = [word for pair in pairs for word in pair][: -1 if odd == 0 else None]
            path.write_text(json.dumps(words))
            reader.check(path, [*("command line", "KEY VALUE"), *(key for key, _ in pairs if key)])
            assert not (tmp_path / "ran").exists()

        run()
