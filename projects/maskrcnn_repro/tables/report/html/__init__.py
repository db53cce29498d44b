"""A report as one HTML file: tables, claims, curves, pictures, and where every number comes from."""

from maskrcnn_repro.tables.report.html.page import Shown, write_page

__all__ = ["Shown", "write_page"]
