"""Shared by the tests of the heads on regions of interest."""

import math

import maskrcnn_repro  # noqa: F401

import torch
from detectron2.layers import ShapeSpec
from detectron2.structures import Boxes

SHAPE = ShapeSpec(channels=4, height=2, width=2)
LOG2 = math.log(2)


def squares(*sides):
    return Boxes(torch.tensor([[0.0, 0.0, side, side] for side in sides]))


def latest(storage):
    return {name: value for name, (value, _) in storage.latest().items()}
