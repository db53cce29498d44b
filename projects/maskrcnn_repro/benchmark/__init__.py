"""Measurements of speed and memory, and the reproducible weights and scenes that they run on."""
