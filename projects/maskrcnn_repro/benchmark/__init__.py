"""Benchmarks of speed and memory, and the reproducible weights and scenes that they use."""
