"""The OpenAPI document: every path, with the schemas that the kinds themselves declare.

Pure, and made once. FastAPI's own generation is not used: the handlers serve every kind alike, and what a kind looks
like is known to `mesh.kinds`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mesh.kinds import KINDS, Kind, json_schema
from mesh.rollout_machine import Command

JSON = dict[str, Any]

_TEXT = {"type": "string"}
_COUNT = {"type": "integer", "minimum": 0}
_COMPONENTS = "#/components/schemas/"

_PROBLEM: JSON = {
    "type": "object",
    "properties": {
        "code": _TEXT,
        "level": {"enum": ["error", "warning"]},
        "path": _TEXT,
        "message": _TEXT,
        "fix": _TEXT,
        "file": _TEXT,
        "line": _COUNT,
    },
    "required": ["code", "level", "path", "message", "fix"],
}
_PROBLEM_DETAILS: JSON = {
    "type": "object",
    "description": "RFC 9457 problem details; `code` is stable, `fix` says how to mend it.",
    "properties": {
        "type": _TEXT,
        "title": _TEXT,
        "status": {"type": "integer"},
        "code": _TEXT,
        "detail": _TEXT,
        "fix": _TEXT,
        "problems": {"type": "array", "items": {"$ref": f"{_COMPONENTS}Problem"}},
    },
    "required": ["type", "title", "status", "code", "detail"],
}
_ADDED_ON_READS: JSON = {
    "status": {"type": "object", "description": "What became of it: conditions as Gateway API has them."},
    "origin": {
        "type": "object",
        "description": "The source that declares it: `kubernetes:<cluster>`, `store` or `files`.",
        "properties": {"source": _TEXT, "location": _TEXT, "stale": {"type": "boolean"}},
        "required": ["source"],
    },
    "warnings": {"type": "array", "items": {"$ref": f"{_COMPONENTS}Problem"}},
    "changes": {
        "type": "array",
        "items": _TEXT,
        "description": "In the answer to a dry run: the paths in which the object that is there would change.",
    },
}
_SPLIT: JSON = {
    "type": "object",
    "properties": {
        "rule": {"oneOf": [{"type": "string"}, {"type": "integer", "minimum": 0}], "description": "Name or index."},
        "weights": {"type": "object", "additionalProperties": {"type": "integer", "minimum": 0, "maximum": 1_000_000}},
    },
    "required": ["weights"],
    "additionalProperties": False,
    "example": {"rule": 0, "weights": {"reviews": 90, "reviews-v2": 10}},
}
_COMMANDS: Mapping[Command, str] = {
    "pause": "Hold it where it is",
    "resume": "Let a paused one go on, or approve its step",
    "promote": "Give the canary all requests at once",
    "abort": "Give the stable backend all requests at once",
}
_REGISTRATION: JSON = {
    "type": "object",
    "description": "An endpoint as in a Service's `spec.endpoints`, and for how long it holds unless it is sent again.",
    "properties": {
        "address": _TEXT,
        "ports": {"type": "object", "additionalProperties": {"type": "integer", "minimum": 1, "maximum": 65535}},
        "ttlSeconds": {"type": "number", "minimum": 1, "maximum": 3600, "default": 15},
    },
    "required": ["address", "ports"],
    "example": {"address": "192.0.2.7", "ports": {"http": 8080}, "ttlSeconds": 15},
}
_ROLLBACK: JSON = {
    "type": "object",
    "properties": {"revision": {"type": "integer", "minimum": 1}},
    "required": ["revision"],
    "additionalProperties": False,
}


def document(*, version: str, with_tokens: bool) -> JSON:
    """The whole document, OpenAPI 3.1."""
    paths: JSON = {}
    for kind in KINDS.values():
        for path, operations in _kind_paths(kind):
            paths.setdefault(path, {}).update(operations)
    for path, operation in _world_paths():
        paths[path] = {"get": operation}
    for path, method, operation in _authority_paths():
        paths[path] = {method: operation}
    paths |= _registration_paths()
    made: JSON = {
        "openapi": "3.1.0",
        "info": {
            "title": "Fairlead",
            "version": version,
            "description": "Config objects in Kubernetes' form, what follows from them, and what the proxies say.",
        },
        "paths": paths,
        "components": {"schemas": _schemas()},
    }
    if with_tokens:
        made["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        made["security"] = [{"token": []}]
    return made


def _schemas() -> JSON:
    schemas: JSON = {"Problem": _PROBLEM, "ProblemDetails": _PROBLEM_DETAILS}
    for kind in KINDS.values():
        definitions = _with_component_references(json_schema(kind.name)["$defs"])
        schemas.update(definitions)
        written = definitions[kind.name]
        schemas[f"{kind.name}Read"] = {**written, "properties": {**written["properties"], **_ADDED_ON_READS}}
    return dict(sorted(schemas.items()))


def _with_component_references(schema: Any) -> Any:
    if isinstance(schema, dict):
        return {
            key: value.replace("#/$defs/", _COMPONENTS)
            if key == "$ref" and isinstance(value, str)
            else _with_component_references(value)
            for key, value in schema.items()
        }
    return [_with_component_references(item) for item in schema] if isinstance(schema, list) else schema


def _kind_paths(kind: Kind) -> Iterator[tuple[str, JSON]]:
    root = f"/api/v1/namespaces/{{namespace}}/{kind.plural}" if kind.namespaced else f"/api/v1/{kind.plural}"
    at = [_path_parameter("namespace")] if kind.namespaced else []
    one = [*at, _path_parameter("name")]
    read = {"$ref": f"{_COMPONENTS}{kind.name}Read"}
    written = _answers({"200": read, "201": read}, 400, 409, 412, 422, 503)
    dry = [_query("dryRun", "`All`: judge, but do not write.", {"enum": ["All"]})]
    revision = [
        _header("If-Match", 'Only over this revision: `"7"`, or the ETag of a read; `*`: only where something is.'),
        _header("If-None-Match", "`*`: only where nothing is."),
    ]

    def operation(verb: str, summary: str, parameters: list[JSON], answers: JSON, body: JSON | None = None) -> JSON:
        made: JSON = {
            "operationId": f"{verb}{kind.name}",
            "tags": [kind.name],
            "summary": summary,
            "parameters": parameters,
            "responses": answers,
        }
        if body is not None:
            made["requestBody"] = {"required": True, "content": body}
        return made

    listed = _answers({"200": _list_of(read)}, 400, 503)
    listed["200"]["content"]["text/event-stream"] = {"schema": _TEXT}
    yield root, {"get": operation("list", f"List {kind.plural}, or watch them", [*at, *_LIST_QUERY], listed)}
    if kind.namespaced:
        everywhere = operation("listAll", f"List {kind.plural} of all namespaces, or watch them", _LIST_QUERY, listed)
        yield f"/api/v1/{kind.plural}", {"get": everywhere}
    body = {
        media: {"schema": {"$ref": f"{_COMPONENTS}{kind.name}"}} for media in ("application/json", "application/yaml")
    }
    patch = {"application/merge-patch+json": {"schema": {"type": "object"}}}
    unchanged = _header("If-None-Match", "304 when the reader has this ETag already.")
    gone = {"type": "object", "properties": {"kind": _TEXT, "metadata": {"type": "object"}, "revision": _COUNT}}
    deleted = _answers({"200": gone}, 400, 404, 409, 412, 503)
    answers = _answers({"200": read}, 400, 404, 503)
    answers["304"] = {"description": "The reader has it already."}
    yield (
        f"{root}/{{name}}",
        {
            "get": operation("read", f"Read a {kind.name} with its status", [*one, unchanged], answers),
            "put": operation("put", f"Create or replace a {kind.name}", [*one, *dry, *revision], written, body),
            "patch": operation("patch", "Change it by JSON merge patch", [*one, *dry, *revision], written, patch),
            "delete": operation("delete", "Delete it from the store", [*one, *dry, *revision], deleted),
        },
    )
    history = _answers({"200": _list_of({"type": "object"})}, 400, 404, 503)
    limit = _query("limit", "At most so many.", {"type": "integer", "minimum": 1, "maximum": 1000})
    yield f"{root}/{{name}}/history", {"get": operation("history", "Who changed it when", [*one, limit], history)}
    posted = [*one, *dry, *revision]
    again = operation("rollback", "Write an older revision again", posted, written, _json_body(_ROLLBACK))
    yield f"{root}/{{name}}/rollback", {"post": again}
    if kind.name == "HTTPRoute":
        shift = operation("split", "Shift weights between the backends of a rule", posted, written, _json_body(_SPLIT))
        yield f"{root}/{{name}}/split", {"post": shift}
    if kind.name == "Rollout":
        told = _answers({"200": read}, 400, 404, 409, 503)
        for command, summary in _COMMANDS.items():
            yield f"{root}/{{name}}/{command}", {"post": operation(command, summary, one, told)}


def _world_paths() -> Iterator[tuple[str, JSON]]:
    anything = {"type": "object"}
    items = _list_of(anything)
    namespace = _query("namespace", "Only of this namespace.", _TEXT)
    search = _query("search", "Only names that contain this.", _TEXT)
    for path, name, summary, parameters, answers in (
        (
            "/api/v1/proxies",
            "proxies",
            "Connected proxies, with their state per xDS type",
            [],
            _answers({"200": items}),
        ),
        (
            "/api/v1/proxies/{node}",
            "proxy",
            "One proxy with the resources it should hold",
            [_path_parameter("node")],
            _answers({"200": anything}, 404),
        ),
        (
            "/api/v1/explain",
            "explain",
            "Where a request would go, and why",
            [
                _query("url", "The request's URL.", _TEXT, required=True),
                _query("method", "GET where it is left out.", _TEXT),
                _query("gateway", "`namespace/name`; every Gateway where it is left out.", _TEXT),
                _query("header", "`name: value`; may stand several times.", {"type": "array", "items": _TEXT}),
            ],
            _answers({"200": anything}, 400, 404),
        ),
        (
            "/api/v1/effective-policies",
            "effectivePolicies",
            "What policies say of each target, merged, and which object said so",
            [
                _query("kind", "Only targets of this kind.", _TEXT),
                namespace,
                _query("name", "Only the target of this name.", _TEXT),
            ],
            _answers({"200": items}),
        ),
        (
            "/api/v1/authorizations",
            "authorizations",
            "Who may call which service, as Consul's intentions say; nobody enforces it yet",
            [
                namespace,
                _query("service", "Only who may call this service.", _TEXT),
                _query("caller", "Only the rule that decides on this caller, `name` or `namespace/name`.", _TEXT),
            ],
            _answers({"200": items}),
        ),
        (
            "/api/v1/distribution/{kind}/{namespace}/{name}",
            "distribution",
            "Which proxies have ACKed what an object makes",
            [_path_parameter("kind"), _path_parameter("namespace"), _path_parameter("name")],
            _answers({"200": anything}, 404),
        ),
        (
            "/api/v1/distribution/{kind}/{name}",
            "distributionOfClusterScoped",
            "The same for cluster-scoped kinds",
            [_path_parameter("kind"), _path_parameter("name")],
            _answers({"200": anything}, 404),
        ),
        (
            "/api/v1/discovered/services",
            "discoveredServices",
            "Services of the mesh, whatever source they came from",
            [
                namespace,
                search,
                _query("limit", "At most so many.", {"type": "integer", "minimum": 1, "maximum": 10_000}),
            ],
            _answers({"200": items}, 400),
        ),
        (
            "/api/v1/discovered/endpoints",
            "discoveredEndpoints",
            "Their endpoints",
            [namespace, _query("service", "Only of this service.", _TEXT)],
            _answers({"200": items}),
        ),
        (
            "/api/v1/load-reports",
            "loadReports",
            "Load per cluster, as proxies report it (LRS)",
            [],
            _answers({"200": items}),
        ),
        ("/api/v1/problems", "problems", "What is wrong in the sources", [], _answers({"200": items})),
        ("/healthz", "healthz", "The process runs", [], _answers({"200": anything})),
        ("/readyz", "readyz", "Sources have synced and the first build is done", [], _ready()),
        (
            "/metrics",
            "metrics",
            "Prometheus' text format",
            [],
            {"200": {"description": "Metrics", "content": {"text/plain": {}}}},
        ),
    ):
        yield (
            path,
            {
                "operationId": name,
                "tags": ["World"],
                "summary": summary,
                "parameters": parameters,
                "responses": answers,
            },
        )


_JOIN_TOKEN: JSON = {
    "type": "object",
    "required": ["serviceAccount"],
    "additionalProperties": False,
    "properties": {
        "serviceAccount": {"type": "string"},
        "namespace": {"type": "string", "default": "default"},
        "ttlSeconds": {"type": "number", "default": 600},
    },
}
_PREPARE: JSON = {
    "type": "object",
    "properties": {"chain": {"type": "string", "description": "PEM, from an offline root; else it signs itself."}},
    "additionalProperties": False,
}


def _authority_paths() -> Iterator[tuple[str, str, JSON]]:
    anything = {"type": "object"}
    root = "/api/v1/authority"
    override = _query("override", "Do not wait for what it waits for.", {"type": "boolean"})
    name = _path_parameter("name")
    steps = _answers({"200": anything}, 400, 404, 409, 503)
    for path, method, operation, summary, parameters, answers in (
        ("", "get", "authority", "The authorities and what they wait for", [], _answers({"200": anything}, 404)),
        ("/bundle", "get", "trustBundle", "What to trust, as SPIFFE has it", [], _answers({"200": anything}, 404)),
        (
            "/proxies",
            "get",
            "authorityProxies",
            "Which proxies trust what they should",
            [],
            _answers({"200": _list_of(anything)}, 404),
        ),
        ("/request", "post", "requestAuthority", "A certificate request for an offline root", [], steps),
        ("/join-tokens", "post", "makeJoinToken", "Let a machine in for its first certificate", [], steps),
        ("/prepare", "post", "prepareAuthority", "Spread a new authority", [], steps),
        (
            "/{name}/activate",
            "post",
            "activateAuthority",
            "Let it sign as soon as every proxy trusts it",
            [name, override],
            steps,
        ),
        ("/{name}/taint", "post", "taintAuthority", "Have what it signed replaced", [name], steps),
        (
            "/{name}/revoke",
            "post",
            "revokeAuthority",
            "Trust it no more, once nothing that it signed is valid",
            [name, override],
            steps,
        ),
    ):
        made: JSON = {
            "operationId": operation,
            "tags": ["Authority"],
            "summary": summary,
            "parameters": parameters,
            "responses": answers,
        }
        body = {"/prepare": _PREPARE, "/join-tokens": _JOIN_TOKEN}.get(path)
        if body is not None:
            made["requestBody"] = {"required": True, "content": _json_body(body)}
        yield root + path, method, made
    listed: JSON = {"operationId": "federation", "tags": ["Authority"], "parameters": []}
    listed |= {"summary": "The trust domains that we federate with", "responses": _answers({"200": _list_of(anything)})}
    yield "/api/v1/federation", "get", listed
    fetched: JSON = {"operationId": "refreshFederation", "tags": ["Authority"], "parameters": [name]}
    fetched |= {"summary": "Fetch the bundle of one of them now", "responses": _answers({"200": anything}, 404, 503)}
    yield "/api/v1/federation/{name}/refresh", "post", fetched


def _registration_paths() -> JSON:
    anything = {"type": "object"}
    path = [_path_parameter(name) for name in ("namespace", "service", "id")]

    def operation(name: str, summary: str, parameters: list[JSON], answers: JSON) -> JSON:
        made: JSON = {"operationId": name, "tags": ["Registration"], "summary": summary}
        return made | {"parameters": parameters, "responses": answers}

    narrow = [_query(name, f"Only of this {name}.", _TEXT) for name in ("namespace", "service")]
    listed = operation(
        "registrations", "The instances that registered themselves", narrow, _answers({"200": _list_of(anything)})
    )
    good = _answers({"200": anything, "201": anything}, 400, 409, 413, 415, 422)
    put = operation("register", "Register an instance for a time, or say that it is alive", path, good)
    put["requestBody"] = {"required": True, "content": _json_body(_REGISTRATION)}
    return {
        "/api/v1/registrations": {"get": listed},
        "/api/v1/registrations/{namespace}/{service}/{id}": {
            "get": operation("registration", "One of them", path, _answers({"200": anything}, 404, 422)),
            "put": put,
            "delete": operation("deregister", "Let it leave now", path, _answers({"200": anything}, 404, 422)),
        },
    }


def _ready() -> JSON:
    return {
        code: {"description": what, "content": {"application/json": {"schema": {"type": "object"}}}}
        for code, what in (("200", "Ready"), ("503", "Waiting, and for what"))
    }


def _answers(good: JSON, *refused: int) -> JSON:
    answers: JSON = {
        code: {"description": "Done", "content": {"application/json": {"schema": schema}}}
        for code, schema in good.items()
    }
    problem = {"application/problem+json": {"schema": {"$ref": f"{_COMPONENTS}ProblemDetails"}}}
    for code in refused:
        answers[str(code)] = {"description": "Refused", "content": problem}
    answers["default"] = {"description": "Refused", "content": problem}
    return answers


def _list_of(schema: JSON) -> JSON:
    return {
        "type": "object",
        "properties": {"items": {"type": "array", "items": schema}, "metadata": {"type": "object"}},
        "required": ["items"],
    }


def _json_body(schema: JSON) -> JSON:
    return {"application/json": {"schema": schema}}


def _path_parameter(name: str) -> JSON:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}


def _query(name: str, description: str, schema: JSON, *, required: bool = False) -> JSON:
    return {"name": name, "in": "query", "required": required, "description": description, "schema": schema}


def _header(name: str, description: str) -> JSON:
    return {"name": name, "in": "header", "required": False, "description": description, "schema": _TEXT}


_LIST_QUERY = [
    _query("labelSelector", "As in Kubernetes: `app=web,tier!=db`.", _TEXT),
    _query(
        "limit",
        "At most so many; `metadata.continue` says how to go on.",
        {"type": "integer", "minimum": 1, "maximum": 10_000},
    ),
    _query("continue", "Where the last page ended.", _TEXT),
    _query("watch", "Stream what is there and what changes, as server-sent events.", {"type": "boolean"}),
    _header("Last-Event-ID", "Resume a watch."),
]
