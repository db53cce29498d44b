"""Ours beside the paper's: numbers and their intervals, verdicts on the paper's claims, text, JSON and HTML."""
