"""Surface coordinates of people in COCO's DensePose format: read, mirrored, written, and what surface they lie on."""
