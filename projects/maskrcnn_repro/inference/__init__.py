"""What is done with a trained model: views of an image, masks of the whole image, pictures."""
