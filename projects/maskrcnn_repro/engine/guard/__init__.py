"""Numbers that are not finite: noticed before they reach a file, explained, and kept to be looked at."""
