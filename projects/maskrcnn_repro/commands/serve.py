"""The command ``maskrcnn serve``: a page on which to try a model, and an HTTP endpoint."""

from __future__ import annotations

import argparse
import importlib.util
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from maskrcnn_repro.engine.signals import STATUSES
from maskrcnn_repro.errors import Ended, UserError
from maskrcnn_repro.inference.exported import is_exported
from maskrcnn_repro.inference.predictor import Predictor
from maskrcnn_repro.serving.limits import Limits
from maskrcnn_repro.serving.worker import ModelWorker, predict_with
from maskrcnn_repro.utils.freed_memory import UNUSED, keep_freed_memory

_LIBRARIES = ("fastapi", "uvicorn", "python_multipart")
_OPEN = "Warning: everyone who reaches this machine by the network can use the model, without a password or encryption."


def run(args: argparse.Namespace) -> None:
    """Serve the model of ``maskrcnn serve`` until a signal comes.

    Raises:
        UserError: the extra ``web`` is missing, or the port is taken.
        KeyboardInterrupt: it was interrupted.
        Ended: another signal came.
    """
    _check_libraries()
    from maskrcnn_repro.serving.app import build_app
    from maskrcnn_repro.serving.guard import LOOPBACK
    from maskrcnn_repro.serving.server import open_socket, serve_until_signal

    pixels = args.max_megapixels * 1_000_000
    limits = Limits(args.max_megabytes << 20, pixels, args.timeout, args.queue)
    # The port first: a model takes seconds to load.
    with open_socket(args.host, args.port) as listener:
        worker, card = _model(args, limits)
        app = build_app(worker, card, limits, args.host, args.allow_origin)
        address = _address(args.host, listener.getsockname()[1])
        print(f"Serving {args.model} at {address} (Ctrl-C ends)", flush=True)
        if args.host not in LOOPBACK:
            print(_OPEN, file=sys.stderr, flush=True)
        number = serve_until_signal(app, listener)
        worker.close()
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise Ended(STATUSES[number])


def _check_libraries() -> None:
    for name in _LIBRARIES:
        if importlib.util.find_spec(name) is None:
            raise UserError(
                f"maskrcnn serve needs the package {name}: pip install 'maskrcnn-repro[web]'."
            )


def _model(args: argparse.Namespace, limits: Limits) -> tuple[ModelWorker, Mapping[str, Any]]:
    """Return what predicts, and what is told of it."""
    from maskrcnn_repro.serving.answers import model_card

    keep_freed_memory(UNUSED)
    # The page filters by itself: all that is sent may be shown.
    lowest = None if is_exported(args.model) else 0.05
    model = Predictor(
        args.model,
        lowest if args.threshold is None else args.threshold,
        device=args.device,
        precision="auto",
        tiles=args.tiles,
        urls=None,
        max_pixels=limits.max_pixels,
        trust=args.trust,
    )
    card = model_card(model, Path(args.model).name or str(args.model), limits)
    return ModelWorker(predict_with(model), limits.places), card


def _address(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host or '0.0.0.0'}:{port}"
