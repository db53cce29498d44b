"""``maskrcnn replay``: a failed training step once more."""

from __future__ import annotations

import argparse

from maskrcnn_repro.engine.replay import replay


def run(args: argparse.Namespace) -> None:
    """Do the step of ``args.file`` again and print where its numbers stop being finite."""
    step = replay(args.file, args.device)
    print(f"Failed with: {step.what}")
    same = "equal to the last bit" if step.equal else "other than then (another device or version?)"
    print(f"Losses, {same}:")
    for name, loss in step.losses.items():
        print(f"  {name:<24}{float(loss):g}")
    if step.module:
        print(f"First output that is not finite: module {step.module!r} ({step.module_class})")
    if step.gradients:
        print(
            f"Gradients that are not finite: {len(step.gradients)}, such as {step.gradients[-1]!r}"
        )
    if not step.module and not step.gradients:
        print("All outputs and gradients are finite.")
