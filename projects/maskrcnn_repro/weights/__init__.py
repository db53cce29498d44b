"""Weights of several trainings, or of other libraries, as checkpoints of this project."""
