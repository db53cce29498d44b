"""The subcommand ``serve``: a page on which to try a model, and an HTTP endpoint."""

from __future__ import annotations

import argparse
from urllib.parse import urlsplit

from maskrcnn_cli.parsing import Command, Parser, add_device, add_model, add_tiles, count, fraction

EXAMPLES = """
  A page at http://127.0.0.1:8000 where pictures can be dropped:
    %(prog)s output/mine

  The same for a script:
    curl -F image=@photo.jpg http://127.0.0.1:8000/predict

  For other machines of a trusted network, on any free port:
    %(prog)s output/mine --host 0.0.0.0 --port 0
"""


def add_options(parser: Parser) -> None:
    """Add the arguments of ``maskrcnn serve``."""
    add_model(parser)
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: this machine alone)"
    )
    parser.add_argument(
        "--port", type=port, default=8000, help="0 chooses a free one (default: %(default)s)"
    )
    parser.add_argument(
        "--threshold",
        type=fraction,
        metavar="SCORE",
        help="least score of what is sent; the page chooses among it (default: 0.05, or the least that an exported "
        "file knows)",
    )
    add_device(parser)
    add_tiles(parser)
    _add_limits(parser)


def _add_limits(parser: Parser) -> None:
    parser.add_argument(
        "--max-megabytes",
        type=count,
        default=32,
        metavar="N",
        help="of a file (default: %(default)s)",
    )
    parser.add_argument(
        "--max-megapixels",
        type=count,
        default=50,
        metavar="N",
        help="of an image (default: %(default)s)",
    )
    parser.add_argument(
        "--queue",
        type=count,
        default=16,
        metavar="N",
        help="requests at one time; further ones are sent away (default: %(default)s)",
    )
    parser.add_argument(
        "--timeout",
        type=count,
        default=60,
        metavar="SECONDS",
        help="for a request, with its waiting (default: %(default)s)",
    )
    parser.add_argument(
        "--allow-origin",
        action="append",
        type=origin,
        default=[],
        metavar="URL",
        help="another site whose pages may ask, such as https://example.org; may be repeated",
    )


def port(word: str) -> int:
    """Parse the number of a port: the ``type`` of an option."""
    if not word.isdecimal() or int(word) > 65535:
        raise argparse.ArgumentTypeError(f"{word!r} is no number from 0 to 65535")
    return int(word)


def origin(word: str) -> str:
    """Parse the origin of a page, as browsers send it: the ``type`` of an option."""
    parts = urlsplit(word.rstrip("/"))
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path or parts.query:
        raise argparse.ArgumentTypeError(f"{word!r} is no origin such as https://example.org:8080")
    return word.rstrip("/").lower()


SERVE = Command(
    name="serve",
    summary="A page on which to try a model in the browser, and an HTTP endpoint.",
    example="output/mine --port 8000",
    runs="maskrcnn_repro.commands.serve:run",
    add_options=add_options,
    examples=EXAMPLES,
)
