"""Child processes of the benchmarks, which import the same copy of this package."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

from maskrcnn_repro._location import SEARCH_PATH
from maskrcnn_repro.errors import UserError


class BenchmarkError(UserError):
    """A benchmark cannot be run as asked, a process of it failed, or the results compared differ."""


def environment(**variables: str) -> dict[str, str]:
    """Return this process's environment with further variables, for a child process.

    This copy of the package comes first on the child's search path, and warnings are silenced.
    """
    path = [str(SEARCH_PATH), os.environ.get("PYTHONPATH", "")]
    settings = {"PYTHONPATH": os.pathsep.join(filter(None, path)), "PYTHONWARNINGS": "ignore"}
    return os.environ | settings | variables


def run_module(module: str, *arguments: object, **variables: str) -> Any:
    """Run a module in a process of its own and return what it prints as JSON.

    Args:
        module: run by ``python -m``.
        *arguments: of its command line.
        **variables: see :func:`environment`.

    Raises:
        BenchmarkError: the process failed.
    """
    process = subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        env=environment(**variables),
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if process.returncode:
        raise BenchmarkError(
            f"The process of {module} ended with status {process.returncode}; see above."
        )
    return json.loads(process.stdout)
