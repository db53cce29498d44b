"""What every room needs and that knows nothing of models: files, locks, pickles, logs, seeds, origins."""
