"""Runs beside each other, whatever they are of: what differs in their configs, their metrics and their curves."""
