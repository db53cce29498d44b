"""Visualisation of ground truth, predictions and proposals."""
