"""All configs resolve to what they resolved to when ``stored/configs`` was recorded."""

from maskrcnn_repro import BACKEND
from maskrcnn_repro.config import leaves
from maskrcnn_repro.tables.paper.experiments import experiments

import pytest
from detectron2.config import get_cfg

from tests.helpers import config_dump
from tests.helpers.config_dump import (
    DIFFERENCES,
    DUMP,
    compare,
    read_allowed,
    read_dump,
    resolve_stored_names,
)

STORED = {"paper a": {"K": 1, "L": [2]}, "mini a": {"K": 1, "L": [3]}}


def changed(*pairs):
    """Return STORED with other values: (config, key, value) each, None removes the key."""
    tree = {name: dict(values) for name, values in STORED.items()}
    for name, key, value in pairs:
        tree[name].pop(key, None)
        if value is not None:
            tree[name][key] = value
    return tree


def test_all_configs_resolve_to_the_stored_values():
    stored = read_dump(DUMP)
    now = resolve_stored_names()
    # An installed Detectron2 has keys that the embedded subset lacks.
    if BACKEND.name == "installed":
        more = {key for key, _ in leaves(get_cfg())} - stored["defaults"].keys()
        now = {
            name: {key: value for key, value in values.items() if key not in more}
            for name, values in now.items()
        }
    assert compare(stored, now, read_allowed(DIFFERENCES)) == []


def test_the_dump_holds_every_experiment():
    names = {name.partition(" ")[2] for name in read_dump(DUMP) if name.startswith("paper ")}
    assert len(names) == len(experiments())


def test_every_allowed_difference_has_a_reason():
    assert all(rule["reason"].strip() for rule in read_allowed(DIFFERENCES))


def test_a_dump_is_read_as_it_was_written(tmp_path):
    resolved = {"defaults": {"K": 1, "L": [2]}, **STORED}
    config_dump.write_dump(tmp_path / "dump", resolved)
    assert read_dump(tmp_path / "dump") == resolved


@pytest.mark.parametrize(
    ("now", "text"),
    [
        (changed(("mini a", "L", [4])), "mini a: L was [3], is [4]"),
        (changed(("mini a", "L", None)), "mini a: L was [3], is 'absent'"),
        (changed(("paper a", "M", 5)), "paper a: M was 'absent', is 5"),
        ({"paper a": STORED["paper a"]}, "mini a: in one of the two alone"),
    ],
)
def test_a_difference_is_told_with_config_key_and_values(now, text):
    assert compare(STORED, now, []) == [text]


def test_allowed_differences_pass_and_unneeded_ones_do_not():
    renamed = changed(
        *((name, "L", None) for name in STORED), ("paper a", "N", [2]), ("mini a", "N", [3])
    )
    allow = {"key": "L", "renamed": "N", "reason": "shorter"}
    assert compare(STORED, renamed, [allow]) == []
    assert compare(STORED, STORED, [allow]) == [
        f"allowed, but there is no such difference: {allow}"
    ]
    wrong = changed(
        *((name, "L", None) for name in STORED), ("paper a", "N", [2]), ("mini a", "N", [4])
    )
    assert [text.partition(":")[0] for text in compare(STORED, wrong, [allow])] == ["mini a"] * 2
    here = {"key": "K", "value": 9, "configs": "mini *", "reason": "larger"}
    assert compare(STORED, changed(("mini a", "K", 9)), [here]) == []
    assert "mini a: K was 1, is 8" in compare(STORED, changed(("mini a", "K", 8)), [here])
    assert "paper a: K was 1, is 9" in compare(STORED, changed(("paper a", "K", 9)), [here])
