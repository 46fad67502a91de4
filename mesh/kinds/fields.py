"""The scalars of Gateway API and their limits, as its CRDs v1.6.3 state them.

The limits live in the types: msgspec holds them while it converts, the explaining walker
(`mesh.validations.structure`) reads the same types to say what is wrong, and the JSON Schemas of the kinds carry them.
A description completes the sentence "… is not".
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

# A Python `$` also matches before a final newline, which would let "name\n" through; JSON Schemas get a plain `$`.
END = r"$(?!\n)"

LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
SUBDOMAIN = rf"{LABEL}(\.{LABEL})*"
TOKEN = r"[A-Za-z0-9!#$%&'*+\-.^_\x60|~]+"  # noqa: S105 - RFC 9110's `token`

ResourceName = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=253,
        pattern=rf"^{SUBDOMAIN}{END}",
        description="a name of lower-case letters, digits, '-' and '.', beginning and ending with a letter or digit",
        examples=["reviews-v2"],
    ),
]
SectionName = ResourceName
ObjectName = Annotated[str, Meta(min_length=1, max_length=253)]
Group = Annotated[
    str,
    Meta(
        max_length=253,
        pattern=rf"^{END}|^{SUBDOMAIN}{END}",
        description="an API group, without a version",
        examples=["gateway.networking.k8s.io"],
    ),
]
KindName = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=63,
        pattern=rf"^[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?{END}",
        description="a kind",
        examples=["Service"],
    ),
]
Namespace = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=63,
        pattern=rf"^{LABEL}{END}",
        description="a namespace: lower-case letters, digits and '-'",
        examples=["default"],
    ),
]
Hostname = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=253,
        pattern=rf"^(\*\.)?{SUBDOMAIN}{END}",
        description="a hostname: lower case, no scheme, port or path, '*' only as the whole first label",
        examples=["*.example.com"],
    ),
]
PreciseHostname = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=253,
        pattern=rf"^{SUBDOMAIN}{END}",
        description="a hostname: lower case, no scheme, port, path or '*'",
        examples=["api.example.com"],
    ),
]
ControllerName = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=253,
        pattern=rf"^{SUBDOMAIN}\/[A-Za-z0-9\/\-._~%!$&'()*+,;=:]+{END}",
        description="a controller's name: a domain, '/' and a path",
        examples=["fairlead.dev/gateway-controller"],
    ),
]
PortNumber = Annotated[int, Meta(ge=1, le=65535)]
Duration = Annotated[
    str,
    Meta(
        pattern=rf"^([0-9]{{1,5}}(h|m|s|ms)){{1,4}}{END}",
        description="a duration: whole numbers of h, m, s or ms",
        examples=["1m30s"],
    ),
]
HeaderName = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=256,
        pattern=rf"^{TOKEN}{END}",
        description="a header name: letters, digits and !#$%&'*+-.^_`|~",
        examples=["x-user-id"],
    ),
]
CookieName = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=256,
        pattern=rf"^{TOKEN}{END}",
        description="a cookie's name: letters, digits and !#$%&'*+-.^_`|~",
        examples=["session"],
    ),
]
QueryParamName = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=256,
        pattern=rf"^{TOKEN}{END}",
        description="a query parameter's name: letters, digits and !#$%&'*+-.^_`|~",
        examples=["user"],
    ),
]
HeaderValue = Annotated[str, Meta(min_length=1, max_length=4096)]
QueryParamValue = Annotated[str, Meta(min_length=1, max_length=1024)]
Path = Annotated[str, Meta(max_length=1024)]
Weight = Annotated[int, Meta(ge=0, le=1_000_000)]
AnnotationValue = Annotated[str, Meta(max_length=4096)]
LabelValue = Annotated[
    str,
    Meta(
        max_length=63,
        pattern=rf"^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?{END}",
        description="a label's value: letters, digits, '-', '_' and '.', beginning and ending with a letter or digit",
        examples=["v1"],
    ),
]
