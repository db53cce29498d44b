"""The check of COCO files: a table of defects as data, one pass that looks for them, and what each means."""
