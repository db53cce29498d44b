"""The models behind the rows: their sizes, two training steps of each, how they differ from Detectron2's."""
