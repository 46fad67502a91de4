"""The peer (`peer/`, Go on go-control-plane) as a system under measurement. Owns how it is started and told changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

from benchmarks.processes import Program, build
from benchmarks.simulator import Write
from benchmarks.systems import Workload


class Peer:
    """A running peer. It serves every proxy the same, so nodes and kinds make no difference."""

    name = "peer"

    def __init__(self, workload: Workload, directory: Path) -> None:
        self._workload = workload
        self._log = directory / "peer.log"
        self._start()

    def _start(self) -> None:
        w = self._workload
        flags = {"services": w.services, "endpoints": w.endpoints, "hosts": w.hosts, "gateway-port": w.gateway_port}
        self.program = Program([build("peer"), *(f"-{name}={value}" for name, value in flags.items())], self._log)
        self.xds = self.program.printed(r"xds listening on (\S+)\n", timeout=60)
        self._api = self.program.printed(r"api listening on (\S+)\n", timeout=60)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.program.stop()

    def restart(self) -> None:
        """End it and start it again with its flags; changes made since its first start are gone."""
        self.program.stop()
        self._start()

    def endpoint_write(self) -> Write:
        """POST /endpoint of its control API."""
        url = f"http://{self._api}/endpoint?service={{service}}&port={{marker}}"
        return Write("POST", url, resource="default/svc-{service}:80")

    def route_write(self, host: int, redirect: str) -> Write:
        """POST /route of its control API."""
        return Write("POST", f"http://{self._api}/route?host={host}&redirect={redirect}")

    def sidecar(self) -> tuple[str, dict[str, Any]]:
        """Any node will do."""
        return "peer~{i}", {}

    def gateway(self) -> tuple[str, dict[str, Any]]:
        """Any node will do."""
        return "peer~{i}", {}

    def bootstrap(self, kind: str, *, xds: str, sotw: bool, admin_port: int) -> dict[str, Any]:
        """A bootstrap with clusters and listeners over ADS."""
        host, _, port = xds.rpartition(":")
        over_ads = {"ads": {}, "resource_api_version": "V3"}
        return {
            "node": {"id": f"peer~{kind}", "cluster": "benchmark"},
            "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": admin_port}}},
            "dynamic_resources": {
                "ads_config": {
                    "api_type": "GRPC" if sotw else "DELTA_GRPC",
                    "transport_api_version": "V3",
                    "grpc_services": [{"envoy_grpc": {"cluster_name": "xds"}}],
                },
                "cds_config": over_ads,
                "lds_config": over_ads,
            },
            "static_resources": {"clusters": [xds_cluster(host, int(port))]},
        }


def xds_cluster(host: str, port: int) -> dict[str, Any]:
    """A static HTTP/2 cluster named `xds` with one endpoint."""
    endpoint = {"address": {"socket_address": {"address": host, "port_value": port}}}
    return {
        "name": "xds",
        "connect_timeout": "5s",
        "type": "STATIC",
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {}},
            }
        },
        "load_assignment": {"cluster_name": "xds", "endpoints": [{"lb_endpoints": [{"endpoint": endpoint}]}]},
    }
