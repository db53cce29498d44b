"""A PNG file of a few bytes that says it has 1.6 billion pixels."""

import struct
import zlib

SIDE = 40_000


def huge_png(path):
    """Write it and return its path; its first row alone is there."""

    def chunk(kind, content):
        checksum = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + checksum

    head = struct.pack(">IIBBBBB", SIDE, SIDE, 8, 2, 0, 0, 0)
    row = zlib.compress(bytes(1 + 3 * SIDE))
    parts = (chunk(b"IHDR", head), chunk(b"IDAT", row), chunk(b"IEND", b""))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    return path
