"""The law about fields: each is in a golden case, reaches Envoy there, and refuses nonsense.

The fields come from the types (`tests.support.fields`), so a new one breaks these tests until all of that is there.
What cannot be is listed here, each with its reason, and a reason that no longer holds breaks them too.
"""

from __future__ import annotations

import copy
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pytest
from msgspec import inspect

from mesh.kinds import KINDS
from mesh.model import Audience
from mesh.tables import Engine
from mesh.validation import validate
from tests.golden.test_golden import CASES, HERE, audiences, changes_of, engine_of, read
from tests.support.fields import OVERRIDES, POLICIES, bare, fields, item, leaves, marked, values
from xds.translate.offline import resources
from xds.translate.tables import RESOURCE_TABLES

JSON = dict[str, Any]
Seen = dict[Audience, list[tuple[str, str]]]
GONE = object()
DURATIONS = ("7s", "11s", "13ms", "0s")

# Envoy wants the file to be there even to validate; `test_extensions.py` writes one.
NOT_IN_GOLDEN = frozenset({"RoutePolicy.extensions.wasm.file"})
_JUDGED = "the server goes by it when it moves a Rollout's state on, which a golden case is given"
_ONE_GROUP = "each kind that it may be for has one group, or means the same in both"
NOT_FOR_ENVOY = {
    "Rollout.analysis.deadline": _JUDGED,
    "Rollout.analysis.failures": _JUDGED,
    "Rollout.analysis.interval": _JUDGED,
    "Rollout.analysis.latency.max": _JUDGED,
    "Rollout.analysis.latency.percentile": _JUDGED,
    "Rollout.analysis.minRequests": _JUDGED,
    "Rollout.analysis.queries.max": _JUDGED,
    "Rollout.analysis.queries.min": _JUDGED,
    "Rollout.analysis.queries.query": _JUDGED,
    "Rollout.analysis.queries.server": _JUDGED,
    "Rollout.analysis.successRate": _JUDGED,
    "Rollout.paused": _JUDGED,
    "Rollout.steps.approval": _JUDGED,
    "Rollout.steps.pause": _JUDGED,
    "Rollout.steps.weight": _JUDGED,
    "Rollout.version": _JUDGED,
    "Rollout.targetRef.group": _ONE_GROUP,
    **{f"{kind}.targetRefs.group": _ONE_GROUP for kind in POLICIES if kind not in ("PeerAuthentication", "Rollout")},
    "RoutePolicy.extensions.wasm.file": "it is in no golden case",
}

# What looks like nonsense and is not: texts that are meant to have lines, and numbers of all sizes.
MAY_BE = frozenset(
    {
        *(
            (path, "control characters")
            for path in (
                "RoutePolicy.directResponse.body",
                "RoutePolicy.extensions.wasm.config",
                "RoutePolicy.redirect.pattern",
                "RoutePolicy.responseOverrides.body",
                "RoutePolicy.rewrite.path.pattern",
                "Rollout.analysis.queries.query",
                "TelemetryPolicy.accessLogs.text",
                "TrafficPolicy.healthChecks.tcp.send",
            )
        ),
        ("Rollout.analysis.queries.max", "huge"),
        ("Rollout.analysis.queries.max", "negative"),
        ("Rollout.analysis.queries.min", "negative"),
    }
)
documents = cache(read)


def uses(kind: str, path: str = "") -> Iterator[tuple[str, int]]:
    """The golden cases' objects of a kind that set a field, smallest case first, each by case and number."""
    for case in sorted(CASES, key=lambda case: (HERE / case / "in.yaml").stat().st_size):
        for number, document in enumerate(documents(case)):
            if document.get("kind") == kind and (not path or path in values(document)):
                yield case, number


@pytest.mark.parametrize("kind", POLICIES)
def test_every_field_and_every_word_it_may_have_is_in_a_golden_case(kind: str) -> None:
    found: dict[str, list[Any]] = defaultdict(list)
    for case, number in uses(kind):
        for path, given in values(documents(case)[number]).items():
            found[path] += [one for each in given for one in (each if isinstance(each, list) else [each])]
    assert {path for path in fields(kind) if path not in found} == {path for path in NOT_IN_GOLDEN if _of(path, kind)}
    for path, of in fields(kind).items():
        words = item(of)
        if isinstance(words, inspect.LiteralType):
            assert set(words.values) <= set(found[path]), path


def _of(path: str, kind: str) -> bool:
    return path.startswith(f"{kind}.")


# -- reaching Envoy ---------------------------------------------------------------------------------------------------


def seen(engine: Engine) -> Seen:
    """What proxies get, each resource by its name and the hash of its content."""
    return {
        audience: [(one.name, one.version) for url in RESOURCE_TABLES for one in resources(engine, audience, url)]
        for audience in audiences(engine)
    }


@pytest.mark.parametrize("kind", POLICIES)
def test_every_field_changes_what_envoy_gets(kind: str) -> None:
    silent = [path for path in sorted(leaves(kind)) if not any(_matters(*at, path) for at in uses(kind, path))]
    assert silent == sorted(path for path in NOT_FOR_ENVOY if _of(path, kind))


def _matters(case: str, number: int, path: str) -> bool:
    """Whether Envoy gets something else where an object has no such field, or another value in it."""
    document = documents(case)[number]
    kind = document["kind"]
    elsewhere = [given for at in uses(kind, path) for given in values(documents(at[0])[at[1]])[path]]
    ways: list[Callable[[Any], Any]] = [lambda _: GONE, _shorter, _nudged]
    ways += [lambda _, to=to: to for to in (*_others(item(fields(kind)[path])), *elsewhere)]
    tried = [changed(document, path, way) for way in ways]
    if set(map(str, values(document)[path])) == {"True"}:  # its only value: what it is in goes with it
        tried.append(changed(document, path.rpartition(".")[0], ways[0]))
    return any(
        other != document and validate(other).object is not None and _seen_with(case, number, other) != _seen(case)
        for other in tried
    )


@cache
def _engine(case: str) -> Engine:
    return engine_of(documents(case))


@cache
def _seen(case: str) -> Seen:
    return seen(_engine(case))


def _seen_with(case: str, number: int, document: JSON) -> Seen:
    """What Envoy gets while one object is another; it is put back."""
    engine, source = _engine(case), next((one["source"] for one in documents(case) if "source" in one), "files")
    found = _seen(case)
    for each in (document, documents(case)[number]):
        engine.commit(list(changes_of([{"source": source}, each])))
        found = seen(engine) if each is document else found
    return found


def _others(of: inspect.Type) -> list[Any]:
    match of:
        case inspect.LiteralType():
            return list(of.values)
        case inspect.StrType() if of.pattern and "h|m|s|ms" in of.pattern:
            return list(DURATIONS)
        case inspect.StrType():
            return ["", "fairlead.dev", *KINDS]
        case _:
            return []


def _shorter(value: Any) -> Any:
    return value[1:] if isinstance(value, list) and len(value) > 1 else value


def _nudged(value: Any) -> Any:
    match value:
        case bool():
            return not value
        case int() | float():
            return value + 1 if value < 2 else value - 1
        case str():
            return f"{value}x"
        case list():
            return [_nudged(one) for one in value]
        case dict():
            return {name: _nudged(one) for name, one in value.items()}
        case _:
            return value


def changed(document: JSON, path: str, way: Callable[[Any], Any]) -> JSON:
    """The object with other values of a field, wherever it has it."""
    made = copy.deepcopy(document)
    _change(made["spec"], made["kind"], path, way)
    return made


def _change(value: Any, path: str, wanted: str, way: Callable[[Any], Any]) -> None:
    for one in value if isinstance(value, list) else [value]:
        for name in list(one) if isinstance(one, dict) else ():
            at = f"{path}.{name}"
            if at == wanted:
                other = way(one.pop(name))
                one |= {} if other is GONE else {name: other}
            elif name == OVERRIDES or wanted.startswith(f"{at}."):
                held = bare(fields(wanted.partition(".")[0])[at])
                inside = list(one[name].values()) if isinstance(held, inspect.DictType) else one[name]
                _change(inside, path if name == OVERRIDES else at, wanted, way)


# -- refusing nonsense ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", POLICIES)
def test_every_field_refuses_nonsense_and_says_where_and_how_to_mend_it(kind: str) -> None:
    taken = []
    for path in sorted(fields(kind)):
        at = next(uses(kind, path), None)
        if at is None:
            assert path in NOT_IN_GOLDEN
            continue
        document = documents(at[0])[at[1]]
        for what, nonsense in _nonsense(fields(kind)[path]):
            if (path, what) in MAY_BE:
                continue
            checked = validate(changed(document, path, lambda _, to=nonsense: to))
            said = [one for one in checked.problems if one.level == "error" and _at(one.path, path)]
            if checked.object is not None or not said or not all(one.fix and one.message for one in said):
                taken.append((path, what, checked.problems[:2]))
    assert taken == []


def _at(place: str, path: str) -> bool:
    """Whether a problem is told of a field or of what is in it."""
    within = path.partition(".")[0] + re.sub(r"\[[^\]]*\]", "", place).removeprefix("spec")
    return within.startswith(path) or within.replace(f".{OVERRIDES}.", ".").startswith(path)


def _nonsense(of: inspect.Type) -> Iterator[tuple[str, Any]]:
    """Values that no field of a type has any use for."""
    match found := bare(of):
        case inspect.StructType():
            yield "text", "nonsense"
            yield "unknown", {"nonsense": 1}
        case inspect.DictType():
            yield "text", "nonsense"
            yield "many", {f"a{number}": "b" for number in range(1000)}
        case inspect.VarTupleType():
            yield "text", "nonsense"
            yield "many", [None] * 2000
            if found.min_length:
                yield "none", []
        case inspect.BoolType():
            yield "text", "yes"
        case inspect.LiteralType():
            yield "unknown", "nonsense"
        case inspect.IntType() | inspect.FloatType():
            yield "text", "many"
            yield "negative", -1
            yield "huge", 10**18
            yield "not a number", float("nan")
        case inspect.StrType() if found.pattern and "h|m|s|ms" in found.pattern:
            yield from (("negative", "-1s"), ("fraction", "1.5s"), ("endless", "99999h"), ("no unit", "5"))
        case inspect.StrType():
            yield "number", 5
            yield "overlong", "a" * 100_000 * 4
            yield "control characters", "a\x00\r\nb: c"
            yield "no text", "a\ud800"


# -- what fields do ---------------------------------------------------------------------------------------------------

_KERNEL = "the kernel keeps it to itself: what can be seen of a socket is `time` alone"
_CLOCK = "tests/unit/mesh/test_rollout_machine.py says so with a clock of its own; with Envoy it would take minutes"
_QUERIES = "no Envoy takes part: tests/unit/fairlead/test_serve_rollouts.py and tests/unit/policy ask a Prometheus"
NOT_SHOWN = {
    "ClientPolicy.tcpKeepalive.interval": _KERNEL,
    "ClientPolicy.tcpKeepalive.probes": _KERNEL,
    "Rollout.analysis.interval": _CLOCK,
    "Rollout.analysis.latency.percentile": _CLOCK,
    "Rollout.analysis.queries.max": _QUERIES,
    "Rollout.analysis.queries.min": _QUERIES,
    "Rollout.analysis.queries.query": _QUERIES,
    "Rollout.analysis.queries.server": _QUERIES,
    "Rollout.paused": _CLOCK,
    "Rollout.steps.pause": _CLOCK,
    "RoutePolicy.extensions.wasm.config": "the module of the tests, written by hand, reads none; a golden case has it",
    "RoutePolicy.extensions.wasm.rootId": "the module of the tests, written by hand, reads none; a golden case has it",
    "TrafficPolicy.healthChecks.initialJitter": "it is a delay of any length up to its own, once; a golden case has it",
    "TrafficPolicy.tcpKeepalive.interval": _KERNEL,
    "TrafficPolicy.tcpKeepalive.probes": _KERNEL,
}
SHOWN = marked(*(HERE.parent / name for name in ("envoy", "kubernetes")))


@pytest.mark.parametrize("kind", POLICIES)
def test_every_field_has_a_test_with_a_real_envoy_that_shows_what_it_does(kind: str) -> None:
    assert sorted(leaves(kind) - set(SHOWN)) == sorted(path for path in NOT_SHOWN if _of(path, kind))


def test_only_fields_that_there_are_are_said_to_be_shown() -> None:
    assert set(SHOWN) <= set().union(*map(leaves, POLICIES))
