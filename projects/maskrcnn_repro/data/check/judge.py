"""What a finding means for a run: an error ends it in one sentence, warnings are said once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from maskrcnn_repro.data.check.findings import Findings
from maskrcnn_repro.data.check.table import EVERY_IMAGE, FEATURES, SEVERITIES, USES, Defect
from maskrcnn_repro.data.watched_loader import BROKEN_SHARE
from maskrcnn_repro.errors import DataError

from detectron2.utils import comm

logger = logging.getLogger(__name__)


def any_defect(row: Defect) -> bool:
    """Return True."""
    return True


def depends_on_use(row: Defect) -> bool:
    """Whether a defect's severity depends on how the set is used."""
    return not row.same_everywhere


def by_severity(
    findings: Findings,
    uses: Iterable[str],
    features: frozenset[str] = FEATURES,
    only: Callable[[Defect], bool] = any_defect,
) -> dict[str, list[Defect]]:
    """Return the defects in the table's order, each under its gravest severity.

    Args:
        findings: of one file.
        uses: of ``train`` and ``test``, how the file is used.
        features: those of :data:`FEATURES` that the config has; more than :data:`BROKEN_SHARE` of broken images
            are an error in any case.
        only: whether to take a defect.
    """
    result: dict[str, list[Defect]] = {severity: [] for severity in SEVERITIES}
    placed: set[str] = set()
    if _too_many_broken(findings):
        features |= {EVERY_IMAGE}
    for severity in SEVERITIES:
        for use in uses:
            for row in findings.of_severity(severity, use, features):
                if row.code not in placed and only(row):
                    placed.add(row.code)
                    result[severity].append(row)
    return result


def judge(
    findings: Findings,
    uses: Iterable[str] = USES,
    features: frozenset[str] = FEATURES,
    only: Callable[[Defect], bool] = any_defect,
) -> list[str]:
    """Log warnings (in the main process), and return notes as sentences; arguments as of :func:`by_severity`.

    Raises:
        DataError: there is an error; one sentence about the first, and how many other kinds there are.
    """
    rows = by_severity(findings, list(uses), features, only)
    if errors := rows["error"]:
        sentence = findings.sentence(errors[0].code)
        if errors[0].broken and EVERY_IMAGE not in features:
            limit = f"more than the {BROKEN_SHARE:.0%} that DATALOADER.SKIP_BROKEN leaves out"
            sentence = f"{sentence[:-1]} ({findings.broken()} of {findings.images} images are broken, {limit})."
        if more := len(errors) - 1:
            kinds = "kind" if more == 1 else "kinds"
            sentence = f"{sentence[:-1]} ({more} more {kinds} of error: maskrcnn check lists all)."
        raise DataError(sentence)
    for row in rows["warning"] if comm.is_main_process() else ():
        logger.warning("%s", findings.sentence(row.code))
    return [findings.sentence(row.code) for row in rows["note"]]


def _too_many_broken(findings: Findings) -> bool:
    return findings.broken() > BROKEN_SHARE * findings.images
