"""A real Envoy with a bootstrap of its own and no control plane, for what translation alone decides."""

from __future__ import annotations

import contextlib
import http.client
import json
import random
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ENVOY = Path(__file__).parents[2] / ".venv" / "bin" / "envoy"


def free_port() -> int:
    """A port that nobody listens on just now, below those that the system hands to other tests' connections."""
    while True:
        port = random.SystemRandom().randrange(16_384, 32_000)
        with socket.socket(socket.AF_INET6) as probe, contextlib.suppress(OSError):
            probe.bind(("::", port))
            return port


@contextlib.contextmanager
def running(bootstrap: dict[str, Any], directory: Path) -> Iterator[None]:
    """Run Envoy until the block ends; returns once it serves."""
    config, address, log = directory / "bootstrap.json", directory / "admin", directory / "envoy.log"
    address.unlink(missing_ok=True)
    config.write_text(json.dumps(bootstrap))
    command = [str(ENVOY), "-c", str(config), "--concurrency", "1", "--use-dynamic-base-id", "-l", "error"]
    command += ["--file-flush-interval-msec", "50"]  # Envoy's own is 10 s: as long as tests wait
    with log.open("w") as output:
        process = subprocess.Popen([*command, "--admin-address-path", str(address)], stdout=output, stderr=output)
    try:
        _wait(process, address, log)
        yield
    finally:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(process: subprocess.Popen[bytes], address: Path, log: Path) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        if address.exists() and (text := address.read_text()) and _listens(text):
            return
        time.sleep(0.02)
    raise TimeoutError(f"Envoy did not become ready: {log.read_text()}")


def _listens(admin: str) -> bool:
    """Whether all listeners are bound: on a busy machine that is later than Envoy is `LIVE`."""
    connection = http.client.HTTPConnection("localhost" if admin.startswith("@") else admin, timeout=5)
    try:
        if admin.startswith("@"):  # an abstract Unix socket
            connection.sock = socket.socket(socket.AF_UNIX)
            connection.sock.connect(f"\0{admin[1:]}")
        connection.request("GET", "/stats?filter=^listener_manager.workers_started$")
        return connection.getresponse().read().endswith(b": 1\n")
    except OSError:
        return False
    finally:
        connection.close()
