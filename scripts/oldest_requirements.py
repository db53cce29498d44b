#!/usr/bin/env python3
"""Print the lower bound of each requirement in ``pyproject.toml`` as ``name==version``, for pip's ``--constraint``.

A requirement without a bound is left to pip: it takes the newest release that goes with the others. Each torchvision,
for one, wants a single torch: torch 2.6 brings torchvision 0.21.
"""

import re
import sys
from collections.abc import Iterable
from pathlib import Path

PYPROJECT = Path(__file__).resolve().parent.parent / "pyproject.toml"
PYTHONS = ((3, 11), (3, 12))
"""The Python versions for which every oldest release has a wheel: NumPy 1.26 ends with 3.12."""
BOUND = re.compile(r"(?P<name>[\w.-]+)\s*(\[[^\]]*\])?\s*>=\s*(?P<version>[\w.]+)")


def main() -> None:
    """Print the constraints of the package and its extra ``test``, or exit where they cannot be installed."""
    if sys.version_info[:2] not in PYTHONS:
        sys.exit(
            f"The oldest versions need Python 3.11 or 3.12, this is {sys.version.split()[0]}: "
            "make test-oldest PYTHON=python3.12"
        )
    import tomllib

    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    requirements = [*project["dependencies"], *project["optional-dependencies"]["test"]]
    print("\n".join(pin_oldest(requirements)))


def pin_oldest(requirements: Iterable[str]) -> list[str]:
    """Return ``name==version`` for each requirement with a lower bound ``>=``, in their order."""
    bounds = map(BOUND.match, requirements)
    return [f"{bound['name']}=={bound['version']}" for bound in bounds if bound]


if __name__ == "__main__":
    main()
