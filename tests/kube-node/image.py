"""Images out of folders, packed as containerd imports them."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import tarfile
from pathlib import Path

from layout import CTR, KUBECONFIG, STATE, run


def full_name(name: str) -> str:
    """An image's name as the kubelet asks for it: a registry, and `library/` for a name of one word."""
    if "/" not in name:
        return f"docker.io/library/{name}"
    first = name.partition("/")[0]
    return name if "." in first or ":" in first or first == "localhost" else f"docker.io/{name}"


def image(name: str, root: Path, *command: str) -> None:
    """Pack a folder as an image and load it."""
    if not KUBECONFIG.exists():
        sys.exit("kube-node: there is no node; run `kube-node up`")
    layer, archive = STATE / f"layer-{os.getpid()}.tar", STATE / f"image-{os.getpid()}.tar"
    try:
        number = pack(full_name(name), root, layer, archive, command)
        run(*CTR, "images", "import", archive)
        note = _note(full_name(name))
        note.parent.mkdir(exist_ok=True)
        note.write_text(number)
    finally:
        layer.unlink(missing_ok=True)
        archive.unlink(missing_ok=True)


def pack(name: str, root: Path, layer: Path, archive: Path, command: tuple[str, ...]) -> str:
    """Write `root` as an image archive of one layer; everything in it is root's. Equal files make equal images."""

    def rooted(info: tarfile.TarInfo) -> tarfile.TarInfo:
        info.uid = info.gid = info.mtime = 0
        info.uname = info.gname = "root"
        return info

    with tarfile.open(layer, mode="w") as tar:
        tar.add(root, arcname=".", filter=rooted)
    with layer.open("rb") as blob:
        digest = hashlib.file_digest(blob, "sha256").hexdigest()
    path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Entrypoint": list(command[:1]), "Cmd": list(command[1:]), "Env": [path]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
    }
    text = json.dumps(config).encode()
    number = hashlib.sha256(text).hexdigest()
    config_name = f"{number}.json"
    manifest = json.dumps([{"Config": config_name, "RepoTags": [name], "Layers": ["layer.tar"]}]).encode()
    with tarfile.open(archive, "w") as tar:
        for file, data in ((config_name, text), ("manifest.json", manifest)):
            source = STATE / f"{file}-{os.getpid()}"
            source.write_bytes(data)
            tar.add(source, arcname=file)
            source.unlink()
        tar.add(layer, arcname="layer.tar")
    return f"sha256:{number}"


def _note(name: str) -> Path:
    """Where the id of an image is written down."""
    return STATE / "images" / name.replace("/", "+")


def image_id(name: str) -> str:
    """The id that pods report which run what is loaded under a name now; empty where nothing is."""
    note = _note(full_name(name))
    return note.read_text() if note.exists() else ""


def busybox() -> None:
    """The image local/busybox:1, which also serves as the pods' sandbox."""
    root = STATE / "busybox"
    (root / "bin").mkdir(parents=True, exist_ok=True)
    shutil.copy(str(shutil.which("busybox")), root / "bin" / "busybox")
    for applet in run("busybox", "--list").stdout.split():
        if applet != "busybox" and not (root / "bin" / applet).is_symlink():
            (root / "bin" / applet).symlink_to("busybox")
    for folder in ("tmp", "etc", "root"):
        (root / folder).mkdir(exist_ok=True)
    image("local/busybox:1", root, "/bin/busybox", "sleep", "2147483647")
    shutil.rmtree(root)
