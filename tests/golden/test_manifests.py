"""What runs a Gateway of the case `gateway-in-kubernetes`: `manifests.yaml` there; and the files that its pods find.

Written anew with `--rewrite-golden`, as the other cases.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from discovery.kubernetes.provision import BOOTSTRAP, DRAIN, Files, Settings, manifests
from fairlead.addresses import Address
from fairlead.kubernetes.gateway_pods import files_for
from mesh.gateways import GATEWAYS, GatewayKey
from mesh.kinds.gateway import Gateway
from mesh.kinds.gatewayparameters import GatewayParametersSpec
from mesh.model import ObjectKey
from mesh.objects import find
from mesh.provisioning import parameters
from mesh.tables import Present
from tests.golden.test_golden import ENVOY, HERE, engine_of, read

CASE = "gateway-in-kubernetes"
GATEWAY = GatewayKey("default", "edge")
SETTINGS = Settings(image="docker.io/envoyproxy/envoy:distroless-v1.40.0")
CA = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
PLAIN = Files({BOOTSTRAP: "{}", DRAIN: "{}"}, CA)


def made(render: Callable[[Gateway, GatewayParametersSpec], Files | None] = lambda *_: PLAIN) -> list[dict[str, Any]]:
    engine = engine_of(read(CASE))
    look = Present(engine)
    gateway = find(look, Gateway, ObjectKey("Gateway", *GATEWAY))
    row = engine.get(GATEWAYS, GATEWAY)
    assert gateway is not None
    assert row is not None
    merged = parameters(look, gateway)
    files = render(gateway, merged)
    assert files is not None
    return list(manifests(gateway, row, merged, SETTINGS, files))


class _Text(yaml.SafeDumper):
    """Writes what has several lines as such."""


def _lines(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Text.add_representer(str, _lines)
_Text.ignore_aliases = lambda *_: True  # type: ignore[method-assign,assignment]


def test_a_gateway_is_run_as_it_should_be(request: pytest.FixtureRequest) -> None:
    text = yaml.dump_all(made(), Dumper=_Text, sort_keys=True, width=120)
    expected = HERE / CASE / "manifests.yaml"
    if request.config.getoption("--rewrite-golden", default=False):
        expected.write_text(text)
    assert text == expected.read_text()


@pytest.mark.envoy
@pytest.mark.parametrize("name", [BOOTSTRAP, DRAIN])
def test_envoy_accepts_the_files_that_pods_find(name: str, tmp_path: Path) -> None:
    xds = Address("fairlead.fairlead-system.svc", 18000)
    found = made(files_for(xds, server_name=xds.host, ca=CA.encode))
    config = next(manifest for manifest in found if manifest["kind"] == "ConfigMap")["data"]
    for file, text in config.items():
        (tmp_path / file).write_text(text)
    (tmp_path / "token").write_text("a.b.c")
    moved = config[name].replace("/etc/fairlead", str(tmp_path)).replace("/var/run/secrets/fairlead", str(tmp_path))
    (tmp_path / "moved.json").write_text(json.dumps(json.loads(moved)))
    command = [str(ENVOY), "--mode", "validate", "-c", str(tmp_path / "moved.json"), "-l", "error"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 0, run.stderr
