"""From a command line to a trained model: launch, setup, training, checkpoints, results."""
