"""The images below a folder, found by what labelling tools write for their names."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from pathlib import Path
from urllib.parse import unquote

from maskrcnn_repro.data.formats.reading import files_below

SUFFIXES = frozenset(
    [
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".png",
        ".bmp",
        ".tif",
        ".tiff",
        ".webp",
        ".gif",
        ".ppm",
        ".pgm",
        ".pbm",
        ".jp2",
        ".avif",
        ".mpo",
    ]
)


class ImageFolder:
    """Finds images below a folder: by their path, else by the end of it, upper and lower case alike.

    Args:
        root: the folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._by_name: dict[tuple[bool, str], list[str]] | None = None

    def find(self, names: list[str]) -> list[str]:
        """Return the paths, relative to the folder with forward slashes, that may be meant: one, several or none.

        Args:
            names: to try one after the other: relative to the folder, or absolute on any machine; slashes of both
                kinds, and as in an address (``%20``). One without the ending of an image may be any with that stem.
        """
        lists = [parts for name in names if (parts := parts_of(name)) and "\0" not in name]
        direct = next((path for parts in lists if self._is_file(path := "/".join(parts))), None)
        if direct is not None:
            return [direct]
        return next((paths for parts in lists if (paths := self._like(parts))), [])

    def _is_file(self, path: str) -> bool:
        # Not pathlib's, which raises for a name that is too long.
        return Path(path).suffix.lower() in SUFFIXES and os.path.isfile(self.root / path)

    def _like(self, parts: list[str]) -> list[str]:
        """Return the paths that end most like these parts."""
        whole = Path(parts[-1]).suffix.lower() in SUFFIXES
        near = self._named(parts[-1], whole) or self._named(unquote(parts[-1]), whole)
        ends = {path: _common_end(parts, _parts(path, whole)) for path in near}
        best = max(ends.values(), default=(0, 0))
        return sorted(path for path, end in ends.items() if end == best)

    def _named(self, name: str, whole: bool) -> list[str]:
        if self._by_name is None:
            self._by_name = defaultdict(list)
            for path in files_below(self.root, SUFFIXES):
                relative = path.relative_to(self.root).as_posix()
                for key in (True, path.name.lower()), (False, path.stem.lower()):
                    self._by_name[key].append(relative)
        return self._by_name.get((whole, name.lower()), [])


def _parts(path: str, whole: bool) -> list[str]:
    """Return the parts of a path, the last of them without its ending unless ``whole``."""
    return (path if whole else path.removesuffix(Path(path).suffix)).split("/")


def parts_of(name: str) -> list[str]:
    """Return the parts of a path of any system, without what leads out of a folder: a drive, a root, ``..``."""
    parts: list[str] = []
    for part in re.split(r"[\\/]+", name):
        if part == ".." and parts:
            parts.pop()
        elif part not in ("", ".", "..") and not re.fullmatch(r"[A-Za-z]:", part):
            parts.append(part)
    return parts


def _common_end(first: list[str], second: list[str]) -> tuple[int, int]:
    """Return how many of the last parts are equal but for case, and how many of these are wholly equal."""
    same = whole = 0
    for part, other in zip(reversed(first), reversed(second), strict=False):
        if unquote(part).lower() != unquote(other).lower():
            break
        same += 1
        whole += part == other
    return same, whole
