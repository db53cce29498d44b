"""COCO evaluation of a model over the test sets of a config."""
