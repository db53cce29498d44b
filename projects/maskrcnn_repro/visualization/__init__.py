"""Pictures of ground truth, predictions and proposals."""
