"""RequestAuthentication of `fairlead.dev/v1alpha1`: whose tokens (JWT) requests may carry, and whether they need one.

It is for a Gateway, a ListenerSet or a listener of either, an HTTPRoute or GRPCRoute or a named rule of it, a Service
(at the sidecars in front of its workloads) or one of its ports, or a Namespace; in the root namespace for the mesh. A
token that nobody listed here has signed is refused wherever the policy holds; a request without one passes unless
`required` says otherwise.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from mesh.kinds.fields import END, CookieName, HeaderName, QueryParamName
from mesh.kinds.meta import Object, Spec
from mesh.kinds.policy import Atomic, TargetRefs

Issuer = Annotated[str, Meta(min_length=1, max_length=1024)]
Audience = Annotated[str, Meta(min_length=1, max_length=1024)]
ClaimName = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=256,
        pattern=rf"^[^\s.]+(\.[^\s.]+)*{END}",
        description="a claim's name, with dots where it lies within others",
        examples=["realm.roles"],
    ),
]


class JWTHeader(Atomic, frozen=True, kw_only=True):
    """A header that holds a token after `prefix`, as `Bearer `."""

    name: HeaderName
    prefix: Annotated[str, Meta(max_length=256)] = ""


class ClaimToHeader(Atomic, frozen=True, kw_only=True):
    """The backend gets the claim's value in this header."""

    header: HeaderName
    claim: ClaimName


class JWTRule(Atomic, frozen=True, kw_only=True):
    """An issuer, and where its tokens are looked for: by default `Authorization: Bearer` and `?access_token=`.

    `jwks` are its keys as they stand, `jwks_uri` is where Fairlead fetches them; exactly one. `audiences`: the token
    must be for one of them; none: for anybody. What the backend gets: the token itself with `forward_original_token`,
    its payload in base64url in the header `output_payload_to_header`, and single claims.
    """

    issuer: Issuer
    audiences: Annotated[tuple[Audience, ...], Meta(max_length=32)] = ()
    jwks: Annotated[str, Meta(max_length=65_536)] | None = None
    jwks_uri: Annotated[str, Meta(min_length=1, max_length=2048)] | None = None
    from_headers: Annotated[tuple[JWTHeader, ...], Meta(max_length=8)] = ()
    from_params: Annotated[tuple[QueryParamName, ...], Meta(max_length=8)] = ()
    from_cookies: Annotated[tuple[CookieName, ...], Meta(max_length=8)] = ()
    forward_original_token: bool = False
    output_payload_to_header: HeaderName | None = None
    output_claim_to_headers: Annotated[tuple[ClaimToHeader, ...], Meta(max_length=32)] = ()


class RequestAuthenticationSettings(Spec, frozen=True, kw_only=True):
    """All that a RequestAuthentication can set. `jwt_rules: []`: nobody's tokens are looked at.

    With `required` a request without a token of one of `jwt_rules` is refused; without rules, every request is.
    """

    jwt_rules: Annotated[tuple[JWTRule, ...], Meta(max_length=16)] | None = None
    required: bool | None = None


class RequestAuthenticationSpec(RequestAuthenticationSettings, frozen=True, kw_only=True):
    """What it is for, what holds unless something narrower says otherwise, and what holds whatever it says."""

    target_refs: TargetRefs
    overrides: RequestAuthenticationSettings | None = None


class RequestAuthentication(Object, frozen=True, kw_only=True):
    """`fairlead.dev/v1alpha1` RequestAuthentication."""

    api_version: Literal["fairlead.dev/v1alpha1"]
    kind: Literal["RequestAuthentication"]
    spec: RequestAuthenticationSpec
