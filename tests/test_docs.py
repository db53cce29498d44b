"""Every command and every piece of Python in the README and in the pages works as it stands there.

A block carries a kind in a comment above it: ``run``, ``slow``, ``parsed`` (its arguments are understood) or
``not run: REASON``. The Python blocks of a page run together, in their order, in a process of their own.
"""

import os
import re
import shlex
import subprocess
import sys

from maskrcnn_cli.dispatch import COMMANDS
from maskrcnn_repro.config import load_config
from maskrcnn_repro.data.proposals.prepare import check_proposal_keys

import pytest

from tests.helpers.code_blocks import KINDS, Block, blocks_of
from tests.helpers.paths import ROOT

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
BLOCKS = [block for page in PAGES for block in blocks_of(page, ROOT)]
EACH_ALONE = """
import os, runpy, sys
import maskrcnn_repro

for script in sys.argv[1:]:
    if child := os.fork():
        print(script, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
    else:
        runpy.run_path(script, run_name="__main__")
        sys.stdout.flush()
        os._exit(0)  # tearing the interpreter down would copy the memory that is shared
"""
"""Runs scripts in processes of their own that share one import of the package, which takes seconds."""
NAMED = re.compile(r"# (\S+\.py)\n")
DOORWAYS = {"python train_net.py": "train", "python scripts/run_table.py": "table"}


def named(*kinds, language="bash"):
    blocks = [b for b in BLOCKS if b.kind in kinds and b.language == language]
    return pytest.mark.parametrize("block", blocks, ids=[block.place for block in blocks])


@pytest.fixture
def shell(tmp_path):
    """Runs a script in a folder that looks like the checkout, with `python` and `maskrcnn` on the path."""
    for name in ("configs", "examples", "projects", "compat", "results", "scripts", "train_net.py"):
        (tmp_path / name).symlink_to(ROOT / name)
    programs = tmp_path / ".bin"
    programs.mkdir()
    for name, arguments in (("python", ""), ("maskrcnn", "-m maskrcnn_cli")):
        (programs / name).write_text(f'#!/bin/sh\nexec {sys.executable} {arguments} "$@"\n')
        (programs / name).chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join([str(ROOT / "projects"), *sys.path]),
    }

    def run(script):
        return subprocess.run(
            ["sh", "-e", "-c", script],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=1200,
            check=False,
        )

    return run


def named_files(page):
    """Files of a page that its commands read: blocks that begin with their file's name."""
    text = page.read_text(encoding="utf-8")
    pattern = r"^```\w+\n# (\S+\.(?:py|yaml))\n(.*?)^```$"
    return re.findall(pattern, text, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS, ids=[block.place for block in BLOCKS])
def test_every_block_says_how_it_is_tested(block):
    if block.language == "python" and not block.kind:
        return  # run, by the test of its page
    assert block.kind in KINDS, f"{block.place}: no comment <!-- test: KIND --> above it"
    assert (block.kind == "not run") == bool(block.reason), f"{block.place}: a reason is needed"


def subcommands(block):
    """Yield name and arguments of each command of ours in a block; of another program the name is empty."""
    for command in block.commands:
        for doorway, name in DOORWAYS.items():
            command = command.replace(doorway, f"maskrcnn {name}")
        program, *words = shlex.split(command)
        is_ours = program == "maskrcnn" and words[0] in COMMANDS
        yield (words[0], words[1:]) if is_ours else ("", [command])


@named("parsed", "run", "slow")
def test_arguments_are_understood(block):
    for name, words in subcommands(block):
        if name:
            COMMANDS[name].arguments(words)
        else:
            assert block.kind != "parsed", f"{block.place}: {words[0]} is no subcommand"


@named("parsed", "run", "slow")
def test_trainings_name_the_proposals_that_they_need(block):
    for name, words in subcommands(block):
        if name in ("train", "eval"):
            args = COMMANDS[name].arguments(words)
            file = ROOT / (args.config_file or "")
            if file.is_file() or (file := ROOT / "configs" / (args.config_file or "")).is_file():
                cfg = load_config(file)
                cfg.merge_from_list(proposal_pairs(args.opts))
                check_proposal_keys(cfg, training=name == "train")


def proposal_pairs(words):
    """The keys and values of a command line that decide where proposals come from."""
    pairs = zip(words[::2], words[1::2], strict=True)
    wanted = ("MODEL.LOAD_PROPOSALS", "MODEL.PROPOSAL_GENERATOR.NAME", "DATASETS.")
    return [word for pair in pairs if pair[0].startswith(wanted) for word in pair]


@named("run")
def test_commands_run(block, shell):
    done = shell(block.code)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@named("slow")
def test_slow_commands_run(block, shell, tmp_path):
    for name, code in named_files(ROOT / block.place.partition(":")[0]):
        (tmp_path / name).write_text(code)
    done = shell(block.code)
    assert done.returncode == 0, done.stdout + done.stderr


def scripts_of(page):
    """The Python of a page that is run, by name: blocks that are a file of their own, and the others together."""
    blocks = [
        block.code
        for block in blocks_of(page, ROOT)
        if block.language == "python" and block.kind in ("", "run")
    ]
    named = {match[1]: code for code in blocks if (match := NAMED.match(code))}
    others = [code for code in blocks if not NAMED.match(code)]
    return {f".{page.stem}.py": "\n".join(others), **named}


def test_python_runs(shell, tmp_path):
    scripts = {name: code for page in PAGES for name, code in scripts_of(page).items()}
    for name, code in scripts.items():
        (tmp_path / name).write_text(code)
    done = shell(f"python -c {shlex.quote(EACH_ALONE)} {shlex.join(scripts)}")
    statuses = dict(line.rsplit(" ", 1) for line in done.stdout.splitlines() if ".py " in line)
    assert statuses == dict.fromkeys(scripts, "0"), done.stderr


def test_a_block_knows_its_commands():
    code = "A=1 maskrcnn train \\\n    --resume  # goes on\n# nothing\n\nmake test\n"
    block = Block("x.md:1", "bash", "run", "", code)
    assert block.commands == ["maskrcnn train --resume", "make test"]


def test_blocks_of_a_page(tmp_path):
    page = tmp_path / "a.md"
    page.write_text(
        "<!-- test: not run: it needs COCO -->\n```bash\nls\n```\n\n```text\nno\n```\n"
        "```python\n1\n```\n"
    )
    first, second = blocks_of(page, tmp_path)
    assert (first.place, first.kind, first.reason) == ("a.md:2", "not run", "it needs COCO")
    assert (second.language, second.kind, second.code) == ("python", "", "1\n")
