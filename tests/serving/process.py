"""A real server, in a process of its own."""

import os
import re
import subprocess
import sys
import time
from contextlib import contextmanager

from tests.helpers.paths import ROOT


@contextmanager
def serving(model, folder, *options):
    """Start ``maskrcnn serve``; yields the process and its address once it serves."""
    folders = [str(ROOT / "projects"), os.environ.get("PYTHONPATH", "")]
    variables = {"PYTHONPATH": os.pathsep.join(folders), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "maskrcnn_cli", "serve", str(model), "--port", "0", *options]
    log = folder / "stdout"
    with (
        log.open("w") as out,
        (folder / "stderr").open("w") as err,
        subprocess.Popen(
            command, env={**os.environ, **variables}, stdout=out, stderr=err
        ) as process,
    ):
        try:
            yield process, _address(process, log)
        finally:
            process.kill()


def _address(process, log):
    deadline = time.monotonic() + 120
    while not (match := re.search(r" at (\S+) \(Ctrl-C ends\)", log.read_text())):
        assert process.poll() is None, log.with_name("stderr").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return match[1]
