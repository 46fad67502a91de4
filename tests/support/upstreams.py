"""Several Services behind one real Envoy, each with a TrafficPolicy of its own, so that one start shows many fields."""

from __future__ import annotations

import contextlib
import json
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.support.routing import document, gateway, get, route, serving
from tests.support.static_envoy import free_port

Endpoints = Iterable[int | Mapping[str, Any]]


class Upstreams:
    """What is behind the gateway at `port`: the Service of a name is asked for by that name as host."""

    def __init__(self, port: int, admin: Path, pool: ThreadPoolExecutor) -> None:
        self.port = port
        self._admin = admin
        self._pool = pool

    def ask(self, name: str, path: str = "/", **headers: str) -> tuple[int, dict[str, str], Any]:
        """One request to a Service."""
        return get(self.port, path, f"{name}.example.com", **headers)

    def status(self, name: str, path: str = "/", **headers: str) -> int:
        """The status of its answer."""
        return self.ask(name, path, **headers)[0]

    def who(self, name: str, path: str = "/", **headers: str) -> str:
        """The name of the backend that answered, or else the status."""
        status, _, echoed = self.ask(name, path, **headers)
        return str(echoed["who"]) if status == 200 else str(status)

    def asking(self, name: str, path: str = "/", **headers: str) -> Future[tuple[int, dict[str, str], Any]]:
        """The same without waiting for it."""
        return self._pool.submit(self.ask, name, path, **headers)

    def stat(self, name: str, stat: str) -> int:
        """What Envoy counts of a Service."""
        return self.stats(f"cluster.default/{name}_80.{stat}")

    def stats(self, name: str) -> int:
        """What Envoy counts by this name; 0 where it has not begun to."""
        text = urllib.request.urlopen(f"http://{self._admin.read_text()}/stats?format=json", timeout=10).read()
        return next((int(one["value"]) for one in json.loads(text)["stats"] if one.get("name") == name), 0)


@contextlib.contextmanager
def upstreams(
    directory: Path, services: Mapping[str, tuple[Endpoints, Mapping[str, Any]]], *, protocol: str = "HTTP"
) -> Iterator[Upstreams]:
    """An Envoy with these Services, each with its endpoints (ports on the loopback address, or more) and policy."""
    port = free_port()
    text = gateway(port)
    for name, (endpoints, policy) in services.items():
        text += _service(name, endpoints, protocol)
        text += route(f"\n  - backendRefs: [{{name: {name}, port: 80}}]", hosts=f"[{name}.example.com]", name=name)
        if policy:
            spec = {"targetRefs": [{"kind": "Service", "name": name}], **policy}
            text += document("TrafficPolicy", name, spec)
    with ThreadPoolExecutor(32) as pool, serving(text, directory):
        yield Upstreams(port, directory / "admin", pool)


def _service(name: str, endpoints: Endpoints, protocol: str) -> str:
    each = [{"ports": one} if isinstance(one, int) else one for one in endpoints]
    made = [{"address": "127.0.0.1", **one, "ports": {"http": one["ports"]}} for one in each]
    return document("Service", name, {"ports": [{"name": "http", "port": 80, "protocol": protocol}], "endpoints": made})


def until(done: Callable[[], bool], ask: Callable[[], object]) -> None:
    """Ask until something has come about; a thousand times at most."""
    for _ in range(1000):
        ask()
        if done():
            return
    raise AssertionError("a thousand requests did not bring it about")
