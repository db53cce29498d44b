"""Models made fast against the plain ones: the same detections, whatever backbone and heads."""

import copy

from maskrcnn_repro.inference.fast import build
from maskrcnn_repro.inference.fast.build import Accelerator, accelerate

import pytest
import torch

from tests.helpers.tiny_models import picture, tiny_config, tiny_model
