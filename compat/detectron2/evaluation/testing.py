"""Printing results, and checking them against expected ones."""

import logging
import math
import pprint
import sys
from collections.abc import Mapping
from typing import Any

from detectron2._absent import module_getattr
from detectron2.config import CfgNode


def print_csv_format(results: Mapping[str, Any]) -> None:
    """Log the metrics of each task as comma-separated lines, to be copied into a spreadsheet.

    Args:
        results: task to metrics. Metrics with "-" in their names, those of single classes, are left out.
    """
    logger = logging.getLogger(__name__)
    for task, metrics in results.items():
        if not isinstance(metrics, Mapping):
            logger.info("copypaste: %s=%s", task, metrics)
            continue
        shown = {name: value for name, value in metrics.items() if "-" not in name}
        logger.info("copypaste: Task: %s", task)
        logger.info("copypaste: %s", ",".join(shown))
        logger.info("copypaste: %s", ",".join(f"{value:.4f}" for value in shown.values()))


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
    if not expected:
        return True
    logger = logging.getLogger(__name__)

    def holds(task: str, metric: str, value: float, tolerance: float) -> bool:
        # NaN compares false with everything.
        return abs(results[task].get(metric, math.nan) - value) <= tolerance

    if all(holds(*row) for row in expected):
        logger.info("Results verification passed.")
        return True
    logger.error("Result verification failed!")
    logger.error("Expected Results: %s", expected)
    logger.error("Actual Results: %s", pprint.pformat(results))
    sys.exit(1)


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
