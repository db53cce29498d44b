"""Utilities without models in them: files, locks, pickles, logs, random seeds, provenance of results."""
