"""Adds stored proposals to dataset dicts, in the form that Detectron2's mapper reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from maskrcnn_repro.data.proposals.store import ProposalStore
from maskrcnn_repro.errors import DataError

from detectron2.structures import BoxMode

Record = dict[str, Any]
PLACE = "proposals_at"
"""Key of a dataset dict: number of the store and row in it."""
SHOWN = 5
"""Missing images that an error names."""


def placed(records: Sequence[Record], store: ProposalStore, number: int) -> list[Record]:
    """Return copies of dataset dicts with the position of their proposals, under :data:`PLACE`.

    Args:
        records: dataset dicts.
        store: with proposals of these images, and perhaps of others.
        number: index of the store in the list of :class:`WithStoredProposals`.

    Raises:
        DataError: the store lacks some of the images; the first are named.
    """
    ids = [record["image_id"] for record in records]
    rows = store.rows(ids)
    missing = [image_id for image_id, row in zip(ids, rows, strict=True) if row is None]
    if missing:
        first = ", ".join(repr(image_id) for image_id in missing[:SHOWN])
        raise DataError(
            f"Proposals {store.path} have nothing for {len(missing)} of {len(ids)} images: {first}"
            f"{', …' if len(missing) > SHOWN else ''}; write them for this data set with "
            "`maskrcnn proposals`."
        )
    return [{**record, PLACE: (number, row)} for record, row in zip(records, rows, strict=True)]


class WithStoredProposals:
    """A mapper that adds stored proposals to a dataset dict and then calls another mapper.

    Args:
        mapper: such as Detectron2's ``DatasetMapper``, which transforms the proposals with the image and
            keeps the first ``DATASETS.PRECOMPUTED_PROPOSAL_TOPK_TRAIN`` or ``_TEST``.
        stores: in the order of the numbers passed to :func:`placed`.
    """

    def __init__(self, mapper: Callable[[Record], Record], stores: Sequence[ProposalStore]) -> None:
        self.mapper = mapper
        self.stores = list(stores)

    def __call__(self, record: Record) -> Record:
        """Map a dataset dict of :func:`placed`, which is not changed."""
        fields = {key: value for key, value in record.items() if key != PLACE}
        number, row = record[PLACE]
        boxes, logits = self.stores[number][row]
        return self.mapper(
            {
                **fields,
                "proposal_boxes": boxes,
                "proposal_objectness_logits": logits,
                "proposal_bbox_mode": BoxMode.XYXY_ABS,
            }
        )
