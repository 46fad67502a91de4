"""Rollout of `fairlead.dev/v1alpha1`: requests of one rule move from a stable backend to a canary, step by step.

Nothing is written into the route: while a Rollout is there, the shares of its two backends are those of its present
step (`mesh/rollouts.py`). What makes it move on, hold or go back is `mesh/rollout_machine.py`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from mesh.kinds.fields import CookieName, Duration, Group, HeaderName, HeaderValue, ObjectName
from mesh.kinds.meta import Object, Spec
from mesh.kinds.policy import Percent, SectionOf
from mesh.kinds.references import GATEWAY_API, BackendObjectReference

Requests = Annotated[int, Meta(ge=1, le=1_000_000_000)]


class RolloutTarget(Spec, frozen=True, kw_only=True):
    """A rule of a route in the Rollout's namespace, by its name or number; needless where there is only one."""

    group: Group = GATEWAY_API
    kind: Literal["HTTPRoute", "GRPCRoute"]
    name: ObjectName
    section_name: SectionOf | None = None


class CohortHeader(Spec, frozen=True, kw_only=True):
    """A header that a request carries; a regular expression must match the whole value."""

    type: Literal["Exact", "RegularExpression"] = "Exact"
    name: HeaderName
    value: HeaderValue


class CohortCookie(Spec, frozen=True, kw_only=True):
    """A cookie and its exact value."""

    name: CookieName
    value: Annotated[str, Meta(min_length=1, max_length=1024)]


class CohortMatch(Spec, frozen=True, kw_only=True):
    """Requests that go to the canary whatever the step; exactly one of the fields."""

    header: CohortHeader | None = None
    cookie: CohortCookie | None = None


class StickyCookie(Spec, frozen=True, kw_only=True):
    """A cookie by whose value a client is known.

    With `ttl` clients that have none are given one; 0s makes it end with the session.
    """

    name: CookieName
    ttl: Duration | None = None
    path: Annotated[str, Meta(min_length=1, max_length=1024)] = "/"


class Stickiness(Spec, frozen=True, kw_only=True):
    """By what a client is known, which then stays with the version that it got; exactly one of the fields."""

    header: HeaderName | None = None
    cookie: StickyCookie | None = None


class RolloutStep(Spec, frozen=True, kw_only=True):
    """How much of the two backends' requests the canary gets (percent), and for how long at least.

    `approval`: the step ends only when somebody says `resume`, after its checks have passed.
    """

    weight: Percent
    pause: Duration = "1m"
    approval: bool = False


class LatencyLimit(Spec, frozen=True, kw_only=True):
    """How long so many percent of the canary's answers may take, as its proxies measure it."""

    percentile: Annotated[float, Meta(ge=1, le=99.99)] = 99.0
    max: Duration


class PrometheusQuery(Spec, frozen=True, kw_only=True):
    """An instant query whose one value must lie within the bounds; at least one of them.

    `server` is one of those that the server was started with (`--prometheus`), by default the first of them.
    """

    query: Annotated[str, Meta(min_length=1, max_length=4096)]
    server: Annotated[str, Meta(min_length=1, max_length=1024)] | None = None
    min: float | None = None
    max: float | None = None


class RolloutAnalysis(Spec, frozen=True, kw_only=True):
    """What the canary must satisfy, in checks of at least `interval` and `minRequests` of its requests each.

    So many `failures` in a row roll it back. A step that cannot be judged for `deadline` beyond its pause is rolled
    back too. `scope` says which requests count: all of the canary's, or those of the rule that is moved.
    """

    scope: Literal["Backend", "Rule"] = "Backend"

    interval: Duration = "30s"
    min_requests: Requests = 50
    success_rate: Annotated[float, Meta(ge=0, le=100)] | None = None
    latency: LatencyLimit | None = None
    queries: Annotated[tuple[PrometheusQuery, ...], Meta(max_length=4)] = ()
    failures: Annotated[int, Meta(ge=1, le=100)] = 2
    deadline: Duration = "30m"

    @property
    def counts(self) -> bool:
        """Whether it asks for requests at all, and not for Prometheus alone."""
        return self.success_rate is not None or self.latency is not None


class RolloutSpec(Spec, frozen=True, kw_only=True):
    """What moves where, and how.

    Another target, `stable`, `canary` or `version` is another rollout and begins at the first step. After the last step
    the canary has all. `paused` holds everything where it is.
    """

    target_ref: RolloutTarget
    stable: BackendObjectReference
    canary: BackendObjectReference
    version: Annotated[str, Meta(max_length=256)] = ""
    cohort: Annotated[tuple[CohortMatch, ...], Meta(max_length=8)] = ()
    sticky: Stickiness | None = None
    steps: Annotated[tuple[RolloutStep, ...], Meta(min_length=1, max_length=32)]
    analysis: RolloutAnalysis | None = None
    paused: bool = False


class Rollout(Object, frozen=True, kw_only=True):
    """`fairlead.dev/v1alpha1` Rollout."""

    api_version: Literal["fairlead.dev/v1alpha1"]
    kind: Literal["Rollout"]
    spec: RolloutSpec
