"""What all generated data sets share: random integers, textures, files written whole, names."""
