"""Annotations as labelling tools write them, and their conversion to COCO JSON: one module a format."""
