"""Weights: checkpoints, weights for other classes, two models' weights in one, and whose weights they are."""
