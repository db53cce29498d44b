"""A trained model behind a page and an HTTP endpoint."""
