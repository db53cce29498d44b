"""Classes of a source that become one, such as all but people: ``thing=*``."""

from __future__ import annotations

import csv
from collections.abc import Collection, Sequence

from maskrcnn_repro.data.formats.contents import Contents
from maskrcnn_repro.errors import ConfigError, did_you_mean, listing

REST = "*"
"""In a rule: all classes that no rule names."""


def merge_classes(contents: Contents, rules: Sequence[str]) -> None:
    """Give objects the classes that rules say, and leave only those in the list of classes.

    A class that no rule names stays as it is. A new class that exists in the source keeps its other fields there.

    Args:
        contents: changed in place.
        rules: ``NEW=OLD[,OLD...]`` each; ``*`` as an OLD stands for the classes that no rule names, as NEW or OLD. An OLD
            with a comma stands in double quotes.

    Raises:
        ConfigError: a rule has another form, names a class that is not there, or one that another rule has.
    """
    labels = {shape.label for picture in contents.pictures for shape in picture.shapes}
    classes = [*contents.classes, *sorted(labels - contents.classes.keys())]
    becomes = _new_names(rules, classes)
    fields = contents.classes
    names = dict.fromkeys(becomes.get(name, name) for name in classes)
    contents.classes = {name: fields.get(name, {}) for name in names}
    for picture in contents.pictures:
        for shape in picture.shapes:
            shape.label = becomes.get(shape.label, shape.label)


def _new_names(rules: Sequence[str], classes: Collection[str]) -> dict[str, str]:
    """Return old name -> new name."""
    becomes: dict[str, str] = {}
    rest = ""
    for rule in rules:
        new, equals, olds = rule.partition("=")
        if not (new.strip() and equals and olds):
            raise ConfigError(
                f"--merge {rule!r} is to be NEW=OLD[,OLD...], such as thing=cup,chair."
            )
        for old in next(csv.reader([olds])):
            if old != REST and old not in classes:
                quoted = f" Names with a comma stand in double quotes: --merge '{new}=\"{olds}\"'."
                raise ConfigError(
                    f"--merge {rule!r}: there is no class {old!r}.{did_you_mean(old, classes)} There are "
                    f"{listing(classes)}.{quoted if olds in classes else ''}"
                )
            if rest if old == REST else old in becomes:
                raise ConfigError(f"--merge {rule!r}: {old!r} was named before; name it once.")
            if old == REST:
                rest = new
            else:
                becomes[old] = new
    if rest:
        taken = {*becomes, *becomes.values()}
        becomes.update({name: rest for name in classes if name not in taken})
    return becomes
