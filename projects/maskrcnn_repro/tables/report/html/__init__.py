"""A report as one HTML file: tables, claims, curves, pictures, and where every number comes from."""

from maskrcnn_repro.tables.report.html.page import write_page

__all__ = ["write_page"]
