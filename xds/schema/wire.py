"""Protobuf's wire format, as far as messages are joined and taken apart here without being built or read.

Numbers and length-delimited fields only; no schema, no message objects, no protobuf.
"""

from __future__ import annotations

from mmap import mmap


def varint(value: int) -> bytes:
    """The varint of a number ≥ 0."""
    if value < 0x80:
        return bytes((value,))
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def delimited(tag: bytes, content: bytes) -> bytes:
    """A length-delimited field (message, string or bytes) with that encoded tag."""
    return tag + varint(len(content)) + content


def read_varint(data: bytes | mmap, position: int) -> tuple[int, int]:
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
