"""The paper's tables: its numbers, the experiments behind its rows, its findings as claims."""
