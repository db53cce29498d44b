"""Trained models made fast on the CPU, for predictions alone; training and evaluation keep the plain model."""
