"""A model of one number, whose training can be followed by hand."""

import maskrcnn_repro  # noqa: F401

import torch
from detectron2.engine import SimpleTrainer
from torch import nn


class Quadratic(nn.Module):
    """Loss (w - x)^2 / 2, so the gradient is w - x."""

    def __init__(self, start=0.0):
        super().__init__()
        self.w = nn.Parameter(torch.tensor(start))

    def forward(self, x):
        return {"loss": (self.w - x) ** 2 / 2}


def quadratic_trainer(data, rate=0.5, momentum=0.0, cls=SimpleTrainer, **kwargs):
    model = Quadratic()
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=momentum)
    return cls(model, data, optimizer, **kwargs)


def metrics(trainer, name):
    return trainer.storage.history(name).values()
