"""The subcommand ``export``."""

from pathlib import Path

from maskrcnn_cli.parsing import Command, Parser

FORMATS = ("onnx", "openvino", "pt2", "torchscript")
PRECISIONS = ("fp32", "fp16", "int8")

EXAMPLES = """
  %(prog)s output/run
  %(prog)s output/run --format openvino --precision fp16 --out detector.xml
  %(prog)s output/run --precision int8 --calibrate val.json images/
"""


def add_options(parser: Parser) -> None:
    """Add the arguments of ``maskrcnn export``."""
    parser.add_argument(
        "model", metavar="MODEL", help="folder of a run, a checkpoint, or a shipped model"
    )
    parser.add_argument("--format", choices=FORMATS, default="onnx", help="(default: onnx)")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="to write: .onnx, .xml (with .bin), .pt2 or .ts (default: the checkpoint's name, here)",
    )
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        default="fp32",
        help="fp16: weights in 16 bits; int8: convolutions in 8 bits; of onnx and openvino",
    )
    parser.add_argument(
        "--threshold",
        type=float,
        metavar="SCORE",
        help="detections have a higher score (default: the config's MODEL.ROI_HEADS.SCORE_THRESH_TEST)",
    )
    parser.add_argument(
        "--pasted", action="store_true", help="also return masks at the resolution of the image"
    )
    parser.add_argument("--opset", type=int, default=17, help="of ONNX, 16 to 20 (default: 17)")
    parser.add_argument(
        "--images",
        nargs="+",
        type=Path,
        default=[],
        metavar="IMAGE",
        help="to compare the file with the model on (default: three drawn pictures)",
    )
    parser.add_argument(
        "--calibrate",
        nargs=2,
        type=Path,
        metavar=("JSON", "IMAGES"),
        help="a labelled set in COCO's format: ranges of int8 are taken from 64 of its images, and the AP of file and "
        "model is measured on it",
    )


EXPORT = Command(
    name="export",
    summary="Export a trained model to ONNX, OpenVINO, torch.export or TorchScript.",
    example="output/run --format onnx --out detector.onnx",
    runs="maskrcnn_repro.commands.export:run",
    add_options=add_options,
    examples=EXAMPLES,
)
