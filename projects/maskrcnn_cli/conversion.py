"""Subcommands that convert data and weights: ``convert-...`` and ``join-weights``."""

from pathlib import Path

from maskrcnn_cli.parsing import Command, Parser

PROPOSALS_EXAMPLES = """
  %(prog)s coco_2017_val.pkl coco_2017_val.proposals
  %(prog)s output/rpn/proposals/coco_2017_val.proposals coco_2017_val.pkl
"""

CITYSCAPES_EXAMPLES = """
  %(prog)s --root datasets/cityscapes
  %(prog)s --splits val
"""

DATA_EXAMPLES = """
  An export of Roboflow, CVAT, Label Studio, LabelMe, VIA or YOLO, unpacked; what it is follows from its content:
    %(prog)s export/ data/

  One part to train on and one to measure on, all pictures of a patient (p17_003.png: p17) in one of them:
    %(prog)s annotations.xml data/ --images pictures/ --split 0.8 --group-by "^(p[0-9]+)_"
"""

JOIN_EXAMPLES = """
  %(prog)s rpn/model_final.pth detector/model_final.pth shared.pth
"""

WEIGHTS_EXAMPLES = """
  %(prog)s maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth mask_rcnn.pth
  %(prog)s mask_rcnn.pth back.pth --to torchvision
  %(prog)s resnet50-11ad3fa6.pth r50.pth
  %(prog)s faster_rcnn_r50_fpn_1x_coco.pth r50.pth
"""


def add_proposals_options(parser: Parser) -> None:
    """Add the arguments of ``maskrcnn convert-proposals``."""
    parser.add_argument(
        "source", type=Path, metavar="IN", help="a .pkl, or a folder with the ending .proposals"
    )
    parser.add_argument(
        "target", type=Path, metavar="OUT", help="the other of the two; not there yet"
    )


def add_cityscapes_options(parser: Parser) -> None:
    """Add the options of ``maskrcnn convert-cityscapes``."""
    parser.add_argument(
        "--root",
        type=Path,
        metavar="DIR",
        help="folder with gtFine and leftImg8bit (default: cityscapes below DETECTRON2_DATASETS, or below "
        "datasets)",
    )
    parser.add_argument(
        "--splits",
        nargs="+",
        action="extend",
        metavar="SPLIT",
        help="train, val (default: both of them)",
    )


def add_data_options(parser: Parser) -> None:
    """Add the arguments of ``maskrcnn convert-data``."""
    parser.add_argument("source", type=Path, metavar="IN", help="file or folder of the tool")
    parser.add_argument(
        "out", type=Path, metavar="OUT", help="folder for train.json and val.json, or data.json"
    )
    parser.add_argument(
        "--images", type=Path, metavar="DIR", help="folder of the images (default: from IN)"
    )
    parser.add_argument(
        "--format",
        metavar="NAME",
        help="coco, labelme, via, labelstudio, cvat, yolo, voc or masks (default: by the content)",
    )
    parser.add_argument(
        "--split", type=float, metavar="SHARE", help="of the images that train, such as 0.8"
    )
    parser.add_argument("--seed", type=int, default=1, help="of the split (%(default)s)")
    parser.add_argument(
        "--group-by",
        metavar="RULE",
        help="keep images together in a split: folder, or a regular expression on the file name",
    )
    parser.add_argument(
        "--keep-unused", action="store_true", help="keep all classes without objects"
    )
    parser.add_argument(
        "--merge",
        action="append",
        default=[],
        metavar="NEW=OLD,…",
        help="classes that become one, such as thing=cup,chair or thing=* for all the others; may be given several times",
    )
    parser.add_argument(
        "--class-name",
        default="object",
        metavar="NAME",
        help="of objects in a format without classes (%(default)s)",
    )
    parser.add_argument(
        "--attribute", default="", metavar="NAME", help="region attribute of VIA with the class"
    )
    parser.add_argument(
        "--predictions",
        action="store_true",
        help="take Label Studio's predictions where nobody has annotated",
    )


def add_join_options(parser: Parser) -> None:
    """Add the arguments of ``maskrcnn join-weights``."""
    parser.add_argument(
        "rpn", type=Path, metavar="RPN", help="checkpoint (.pth) of an RPN: backbone and RPN"
    )
    parser.add_argument(
        "detector", type=Path, metavar="DETECTOR", help="checkpoint of a detector: the rest"
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="the checkpoint to write")


def add_weights_options(parser: Parser) -> None:
    """Add the arguments of ``maskrcnn convert-weights``."""
    parser.add_argument(
        "source",
        metavar="IN",
        help="a detector of torchvision, Detectron2 or Detectron, or a ResNet, also in a detector, of torchvision, "
        "timm, MMDetection or Caffe2 (.pth, .safetensors, .pkl), by path or by address",
    )
    parser.add_argument(
        "out",
        type=Path,
        metavar="OUT",
        help="the .pth to write; of a detector its config, too, as .yaml beside it",
    )
    parser.add_argument(
        "--to",
        choices=("torchvision",),
        default="",
        help="the other way: IN is a converted detector, OUT its state_dict for that library",
    )
    parser.add_argument(
        "--backbone",
        action="store_true",
        help="take of a detector its backbone alone, to start from",
    )
    parser.add_argument(
        "--classes",
        type=Path,
        metavar="FILE",
        help="names of a detector's classes, one a line, in the order of its labels (default: COCO's, where their "
        "number is COCO's)",
    )


CONVERT_PROPOSALS = Command(
    name="convert-proposals",
    summary="Convert proposals: Detectron2's .pkl to a .proposals folder, or back.",
    example="coco_2017_val.pkl coco_2017_val.proposals",
    runs="maskrcnn_repro.commands.convert_proposals:run",
    add_options=add_proposals_options,
    examples=PROPOSALS_EXAMPLES,
)
CONVERT_CITYSCAPES = Command(
    name="convert-cityscapes",
    summary="Convert Cityscapes' fine annotations to COCO JSON; a few minutes.",
    example="--root datasets/cityscapes",
    runs="maskrcnn_repro.commands.convert_cityscapes:run",
    add_options=add_cityscapes_options,
    examples=CITYSCAPES_EXAMPLES,
)
CONVERT_DATA = Command(
    name="convert-data",
    summary="Convert a labelling tool's annotations to COCO JSON, checked, and split if asked.",
    example="export/ data/ --split 0.8",
    runs="maskrcnn_repro.commands.convert_data:run",
    add_options=add_data_options,
    examples=DATA_EXAMPLES,
)
JOIN_WEIGHTS = Command(
    name="join-weights",
    summary="Join an RPN and a detector with the same backbone into one detector with that RPN.",
    example="rpn/model_final.pth detector/model_final.pth shared.pth",
    runs="maskrcnn_repro.commands.join_weights:run",
    add_options=add_join_options,
    examples=JOIN_EXAMPLES,
)
CONVERT_WEIGHTS = Command(
    name="convert-weights",
    summary="Convert detectors and ResNets of torchvision, Detectron2 and others, and back.",
    example="maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth mask_rcnn.pth",
    runs="maskrcnn_repro.commands.convert_weights:run",
    add_options=add_weights_options,
    examples=WEIGHTS_EXAMPLES,
)
