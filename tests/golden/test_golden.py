"""Golden cases: `<feature>/in.yaml` is what people and platforms declare, `out.yaml` what must come of it.

`out.yaml` holds every audience's Envoy resources and the objects' statuses. A new case is a new directory; nothing is
registered anywhere. The first document of `in.yaml` may be `{connected: [...], discovered: [...], provisioned: [...]}`
without a kind: the sidecars, gRPC clients and gateways over state-of-the-world that are connected, and what platforms
report; `rollouts` is how far they have come, its `source` who declares the objects, by default `files`, and `mesh` what
settings say of the mesh.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from mesh.model import (
    AUDIENCES,
    DECLARED,
    DISCOVERED_ENDPOINTS,
    DISCOVERED_SERVICES,
    MESH,
    PROVISIONED,
    ROLLOUT_STATES,
    Audience,
    Connected,
    Declared,
    DeclaredKey,
    DiscoveredEndpoints,
    DiscoveredEndpointsKey,
    DiscoveredService,
    DiscoveredServiceKey,
    Endpoint,
    MeshSettings,
    ObjectKey,
    Provisioned,
    ProvisionedKey,
    RolloutState,
    ServicePort,
    Upstream,
)
from mesh.statuses import STATUSES
from mesh.tables import Change, Engine
from mesh.validation import validate
from tests.support.dynamic_module import SEARCH_PATH, built
from tests.support.static_bootstrap import static_bootstrap
from xds.resources import ViewKey
from xds.schema.type_urls import TYPE_CLUSTER, short
from xds.translate.offline import translated
from xds.translate.result_tables import results_of
from xds.translate.tables import TABLES, VIEWS

HERE = Path(__file__).parent
ENVOY = HERE.parents[1] / ".venv" / "bin" / "envoy"
CASES = sorted(path.parent.name for path in HERE.glob("*/in.yaml"))


@pytest.mark.parametrize("case", CASES)
def test_a_case_becomes_what_it_should(case: str, request: pytest.FixtureRequest) -> None:
    made = yaml.safe_dump(_outcome(engine_of(read(case))), sort_keys=True, width=120, allow_unicode=True)
    expected = HERE / case / "out.yaml"
    if request.config.getoption("--rewrite-golden", default=False):
        expected.write_text(made)
    assert made == expected.read_text()


@pytest.mark.envoy
@pytest.mark.parametrize("case", CASES)
def test_envoy_accepts_what_a_case_becomes(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if case == "dynamic-modules":  # Envoy loads what it is to validate
        monkeypatch.setenv(SEARCH_PATH, str(built(tmp_path / "modules")))
    engine = engine_of(read(case))
    for number, audience in enumerate(audiences(engine)):
        if audience.kind == "grpc":
            continue
        bootstrap = tmp_path / f"{number}.json"
        bootstrap.write_text(json.dumps(static_bootstrap(translated(engine, audience), admin_port=0)))
        command = [str(ENVOY), "--mode", "validate", "-c", str(bootstrap), "-l", "error"]
        run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert run.returncode == 0, f"{audience}: {run.stderr}"


def test_every_case_has_its_outcome() -> None:
    assert [path.parent.name for path in sorted(HERE.glob("*/out.yaml"))] == CASES
    assert len(CASES) >= 25


def read(case: str) -> list[dict[str, Any]]:
    """What a case says, document by document."""
    return list(yaml.safe_load_all((HERE / case / "in.yaml").read_text()))


def engine_of(documents: Iterable[dict[str, Any]]) -> Engine:
    """The rows that follow from a case's documents."""
    engine = Engine(TABLES)
    commit = engine.commit(list(changes_of(documents)))
    engine.commit(results_of(commit))
    assert engine.faults == {}
    return engine


def changes_of(documents: Iterable[dict[str, Any]]) -> Any:
    """What the documents of a case declare and report."""
    source = "files"
    for line, document in enumerate(documents):
        if "kind" not in document:
            source = document.get("source", source)
            yield from _surroundings(document)
            continue
        checked = validate(document)
        assert checked.object is not None, checked.problems
        metadata = checked.object.metadata
        key = DeclaredKey(checked.object.kind, metadata.namespace, metadata.name, source)
        yield Change(DECLARED, key, Declared(checked.object, location=f"in.yaml#{line}"))


def _surroundings(document: dict[str, Any]) -> Any:
    if "mesh" in document:
        yield Change(MESH, "", MeshSettings(**document["mesh"]))
    for audience in document.get("connected", ()):
        upstreams = tuple(Upstream(*upstream) for upstream in audience.get("upstreams", ()))
        yield Change(AUDIENCES, Audience(**{**audience, "upstreams": upstreams}), Connected())
    for told in document.get("provisioned", ()):
        key = ProvisionedKey(told.get("namespace", "default"), told["name"], told["source"])
        row = {name: value for name, value in told.items() if name not in ("namespace", "name", "source")}
        yield Change(PROVISIONED, key, msgspec.convert(row, Provisioned))
    for told in document.get("rollouts", ()):
        key = ObjectKey("Rollout", "default", told["name"])
        yield Change(ROLLOUT_STATES, key, RolloutState("", told["phase"], told["step"], told["weight"]))
    for told in document.get("discovered", ()):
        source, namespace, name = told["source"], told.get("namespace", "default"), told["name"]
        ports = msgspec.convert(told["ports"], tuple[ServicePort, ...])
        service = DiscoveredService(ports, external_name=told.get("external_name", ""))
        yield Change(DISCOVERED_SERVICES, DiscoveredServiceKey(source, namespace, name), service)
        each = ({**endpoint, "ports": list(endpoint["ports"].items())} for endpoint in told["endpoints"])
        endpoints = tuple(sorted(msgspec.convert(endpoint, Endpoint) for endpoint in each))
        part = DiscoveredEndpointsKey(source, namespace, name, "all")
        yield Change(DISCOVERED_ENDPOINTS, part, DiscoveredEndpoints(endpoints))


def audiences(engine: Engine) -> list[Audience]:
    """All that are told anything."""
    return sorted({key.audience for key in engine.rows(VIEWS)})


def _outcome(engine: Engine) -> dict[str, Any]:
    return {
        "audiences": {_named(audience): _resources(engine, audience) for audience in audiences(engine)},
        "statuses": {str(key): status.to_json() for key, status in sorted(engine.rows(STATUSES).items())},
    }


def _named(audience: Audience) -> str:
    if not audience.name:
        return "grpc " + audience.namespace
    way = " over SotW" if audience.sotw else " with an agent" if audience.mesh_tls else ""
    return f"{audience.kind} {audience.namespace}/{audience.name}{way}"


def _resources(engine: Engine, audience: Audience) -> dict[str, Any]:
    assert engine.get(VIEWS, ViewKey(audience, TYPE_CLUSTER)) is not None
    return {
        short(url): {_name(each): _without_name(each) for each in found}
        for url, found in translated(engine, audience).items()
        if found
    }


def _name(resource: dict[str, Any]) -> str:
    name: str = resource["name" if "name" in resource else "cluster_name"]
    return name


def _without_name(resource: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in resource.items() if key not in ("name", "cluster_name")}
