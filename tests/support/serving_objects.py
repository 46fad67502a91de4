"""Objects written to a running server over REST, in the namespace `default`."""

from __future__ import annotations

from typing import Any

from mesh.kinds import KINDS
from tests.support.programs import Serving


def put(serving: Serving, kind: str, name: str, spec: dict[str, Any]) -> None:
    """Write an object."""
    found = KINDS[kind]
    body = {"apiVersion": found.api_version, "kind": kind, "metadata": {"name": name}, "spec": spec}
    serving.client.request("PUT", f"/api/v1/namespaces/default/{found.plural}/{name}", body=body)


def service(serving: Serving, name: str, *ports: int) -> None:
    """Write a Service with port 80 and endpoints on loopback."""
    endpoints = [{"address": "127.0.0.1", "ports": {"http": port}} for port in ports]
    put(serving, "Service", name, {"ports": [{"name": "http", "port": 80}], "endpoints": endpoints})
