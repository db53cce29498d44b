"""Values that are kept with the code, without folders of the machine that made them."""

from __future__ import annotations

import re
from typing import Any

# A path from the root of the disk, not part of an address or of a relative path.
_ABSOLUTE = re.compile(r"(?<![\w.:/~-])/(?:[\w.@%+~-]+/)*([\w.@%+~-]+)")


def scrub(value: Any, root: str) -> Any:
    """Return plain values without folders of this machine.

    Args:
        value: texts, numbers, lists and dicts of them.
        root: the folder of all runs; what lies in it keeps its name from there on.
    """
    if isinstance(value, dict):
        return {key: scrub(item, root) for key, item in value.items()}
    if isinstance(value, list):
        return [scrub(item, root) for item in value]
    if not isinstance(value, str):
        return value
    return _ABSOLUTE.sub(r"\1", value.replace(f"{root}/", ""))
