"""Memory that arrays take, at most, while a function runs."""

import tracemalloc


def peak_of(function):
    """Return the largest number of bytes that Python objects and NumPy's arrays took at once."""
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
