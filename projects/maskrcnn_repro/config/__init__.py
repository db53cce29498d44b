"""The config: the keys that this project adds to Detectron2's, what every key may be, and the one way to load one."""

from maskrcnn_repro.config.files import config_chain, configs_folder, find_config
from maskrcnn_repro.config.load import (
    add_config,
    add_keys,
    check_values,
    default_device,
    get_config,
    keys_in,
    keys_of,
    leaf_keys,
    leaves,
    load_config,
    pairs_of,
    set_value,
)
from maskrcnn_repro.config.table import DETECTRON2_KEYS, KEYS, key_table, read_keys

__all__ = [
    "DETECTRON2_KEYS",
    "KEYS",
    "add_config",
    "add_keys",
    "check_values",
    "config_chain",
    "configs_folder",
    "default_device",
    "find_config",
    "get_config",
    "key_table",
    "keys_in",
    "keys_of",
    "leaf_keys",
    "leaves",
    "load_config",
    "pairs_of",
    "read_keys",
    "set_value",
]
