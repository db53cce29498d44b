"""The paper as data: its numbers, the experiments behind its rows, its findings as claims."""
