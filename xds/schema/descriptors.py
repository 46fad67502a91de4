"""The descriptor file: Envoy's protobuf schema on disk, where it comes from and when it is made anew.

`envoy.binpb.z` is one header line (what it was made from), then a zlib-compressed `FileDescriptorSet` in dependency
order. It is derived from the Envoy binary (`extract`), so it is never committed: the wheel's build makes it
(`hatch_build.py`), and a checkout makes it on first use. Several processes may make it at once: equal inputs give equal
bytes, and each writes a temporary file which it renames into place.

This module reads and writes the file and knows nothing of what the descriptors say; `python -m xds.schema.descriptors`
makes it by hand.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
import zlib
from pathlib import Path
from typing import NamedTuple

from xds.schema.descriptor_set import PROTOS, WHEEL, frame, unframe
from xds.schema.errors import SchemaError

HERE = Path(__file__).resolve().parent
FILE = HERE / "envoy.binpb.z"

# Bump when the content of the file changes for a reason other than the Envoy or `protos/`.
_FORMAT = 1
_HEADER = re.compile(rb"fairlead-schema (\d+) envoy=(\S+) protos=([0-9a-f]+)")


class Stamp(NamedTuple):
    """What a descriptor file was made from: files with equal stamps have equal content."""

    envoy: str
    protos: str

    def header(self) -> bytes:
        """The first line of the file."""
        return f"fairlead-schema {_FORMAT} envoy={self.envoy} protos={self.protos}\n".encode()


def load() -> list[bytes]:
    """The serialised `FileDescriptorProto`s in dependency order.

    In a checkout (a `pyproject.toml` beside the package) the file is made when it is missing, damaged, or from another
    Envoy or other protos. An installed Fairlead uses the file that its wheel brought, whatever Envoy is installed.

    Raises `SchemaError` when there is neither a usable file nor an Envoy to make one from.
    """
    return _current()[1]


def envoy_version() -> str:
    """The version of the Envoy that the schema is from, such as `1.40.0`.

    Raises `SchemaError` when there is no usable file and none can be made.
    """
    return _current()[0].envoy


def make() -> bytes:
    """Make the descriptor file from the installed Envoy, put it in place, and return its content.

    Raises `SchemaError` when there is no Envoy or no grpcio-tools to make it with.
    """
    from xds.schema import extract

    stamp = installed_stamp()
    if stamp is None:
        raise SchemaError(
            f"Envoy's schema ({FILE}) has not been made yet, and the {WHEEL} wheel that it is made from is not "
            f"installed: run `make install`, or `pip install {WHEEL}==1.40.0 grpcio-tools`"
        )
    content = compose(extract.files_of(extract.installed_binary()), stamp=stamp)
    # In a read-only checkout only the file is missed: what was made serves from memory, and is made again next time.
    if os.access(FILE.parent, os.W_OK):
        write(FILE, content)
    return content


def read(path: Path, *, wanted: Stamp | None) -> tuple[Stamp, list[bytes]]:
    """The stamp of a descriptor file and its serialised files, in dependency order.

    Raises `SchemaError` when the file is missing, damaged, or does not carry the stamp that is `wanted`.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SchemaError(f"Envoy's schema cannot be read from {path}: {error.strerror}") from error
    stamp, files = parse(content, where=path)
    if wanted is not None and stamp != wanted:
        raise SchemaError(f"Envoy's schema in {path} was made from another Envoy or other protos")
    return stamp, files


def parse(content: bytes, *, where: Path) -> tuple[Stamp, list[bytes]]:
    """The stamp and the serialised files in the content of a descriptor file.

    Raises `SchemaError` when it is none, or a damaged one; `where` is what the error calls it.
    """
    header, _, body = content.partition(b"\n")
    found = _HEADER.fullmatch(header)
    if not found or int(found[1]) != _FORMAT:
        raise SchemaError(f"Envoy's schema in {where} is damaged: its first line is not that of a descriptor file")
    try:
        return Stamp(found[2].decode(), found[3].decode()), unframe(zlib.decompress(body))
    except (ValueError, IndexError, zlib.error) as error:
        raise SchemaError(f"Envoy's schema in {where} is damaged: {error}") from error


def write(path: Path, content: bytes) -> None:
    """Put `content` at `path` in one step, so that a reader sees the old file or the new one and never a part."""
    import tempfile

    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f"{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        temporary.chmod(0o644)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def compose(files: list[bytes], *, stamp: Stamp) -> bytes:
    """The content of a descriptor file."""
    return stamp.header() + zlib.compress(frame(files), 9)


def installed_stamp() -> Stamp | None:
    """The stamp of a file made now; None without the Envoy wheel, when whatever file there is has to do."""
    from importlib import metadata

    try:
        envoy = metadata.version(WHEEL)
    except metadata.PackageNotFoundError:
        return None
    digest = hashlib.blake2b(digest_size=8)
    for path in sorted(PROTOS.glob("*.proto")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return Stamp(envoy, digest.hexdigest())


def _current() -> tuple[Stamp, list[bytes]]:
    checkout = (HERE.parent.parent / "pyproject.toml").is_file()
    try:
        return read(FILE, wanted=installed_stamp() if checkout else None)
    except SchemaError as unusable:
        if not checkout:
            raise SchemaError(f"{unusable}; mend it with `pip install --force-reinstall fairlead`") from unusable
    return parse(make(), where=FILE)


if __name__ == "__main__":
    try:
        size = len(make())
    except SchemaError as error:
        sys.exit(f"error: {error}")
    sys.stdout.write(f"{FILE}: {size:,} bytes, from Envoy {envoy_version()}\n")
