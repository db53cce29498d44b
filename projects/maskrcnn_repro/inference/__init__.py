"""Trained models in use: the predictor, its results, and what it reads."""
