"""Printing results, and checking them against expected ones."""

import logging
import math
import sys
from collections.abc import Mapping
from typing import Any

from detectron2._absent import module_getattr
from detectron2.config import CfgNode

__all__ = ["print_csv_format", "verify_results"]

_logger = logging.getLogger(__name__)


def print_csv_format(results: Mapping[str, Any]) -> None:
    """Log the metrics of each task as comma-separated lines, to be copied into a spreadsheet.

    Args:
        results: task to metrics. Metrics with "-" in their names, those of single classes, are left
            out.
    """
    for task, metrics in results.items():
        if not isinstance(metrics, Mapping):
            _logger.info("copypaste: %s=%s", task, metrics)
            continue
        shown = {name: value for name, value in metrics.items() if "-" not in name}
        _logger.info("copypaste: Task: %s", task)
        _logger.info("copypaste: %s", ",".join(shown))
        _logger.info("copypaste: %s", ",".join(f"{value:.4f}" for value in shown.values()))


def verify_results(cfg: CfgNode, results: Mapping[str, Mapping[str, float]]) -> bool:
    """Compare results with ``TEST.EXPECTED_RESULTS``.

    Args:
        cfg: its rows are [task, metric, expected value, tolerance].
        results: task to metrics.

    Returns:
        True; a process with other results ends.

    Raises:
        SystemExit: with status 1, if a metric is missing, not finite or outside its tolerance.
    """
    expected = cfg.TEST.EXPECTED_RESULTS
    wrong = [
        (task, metric, value, tolerance)
        for task, metric, value, tolerance in expected
        # NaN compares false with everything.
        if not abs(results[task].get(metric, math.nan) - value) <= tolerance
    ]
    if wrong:
        _logger.error("Expected (task, metric, value, tolerance): %s\nGot: %s", wrong, results)
        sys.exit(1)
    if expected:
        _logger.info("The results are as expected")
    return True


def flatten_results_dict(results: Mapping[str, Any]) -> dict[str, Any]:
    """Turn ``{"bbox": {"AP": 40.2}}`` into ``{"bbox/AP": 40.2}``, at any depth."""
    flat = {}
    for name, value in results.items():
        if isinstance(value, Mapping):
            flat |= {f"{name}/{rest}": leaf for rest, leaf in flatten_results_dict(value).items()}
        else:
            flat[name] = value
    return flat


__getattr__ = module_getattr(__name__)
