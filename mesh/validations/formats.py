"""Envoy's commands in header values (`%REQ(x-user)%`): what Envoy would refuse, said before it does.

Known are the commands that make sense in headers, and whether they take an argument; Envoy refuses a value with any it
does not know, and with it the whole route (its documentation, "Access logging", "Command operators").
"""

from __future__ import annotations

import re

from mesh.problems import Report, shown

_PLAIN = frozenset(
    {
        "BYTES_RECEIVED",
        "CONNECTION_ID",
        "DOWNSTREAM_DIRECT_REMOTE_ADDRESS",
        "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT",
        "DOWNSTREAM_LOCAL_ADDRESS",
        "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT",
        "DOWNSTREAM_LOCAL_PORT",
        "DOWNSTREAM_LOCAL_URI_SAN",
        "DOWNSTREAM_PEER_FINGERPRINT_256",
        "DOWNSTREAM_PEER_ISSUER",
        "DOWNSTREAM_PEER_SERIAL",
        "DOWNSTREAM_PEER_SUBJECT",
        "DOWNSTREAM_PEER_URI_SAN",
        "DOWNSTREAM_REMOTE_ADDRESS",
        "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT",
        "DOWNSTREAM_REMOTE_PORT",
        "DOWNSTREAM_TLS_CIPHER",
        "DOWNSTREAM_TLS_VERSION",
        "HOSTNAME",
        "PROTOCOL",
        "REQUESTED_SERVER_NAME",
        "RESPONSE_CODE",
        "RESPONSE_CODE_DETAILS",
        "RESPONSE_FLAGS",
        "ROUTE_NAME",
        "START_TIME",
        "STREAM_ID",
        "TLS_JA3_FINGERPRINT",
        "TLS_JA4_FINGERPRINT",
        "UPSTREAM_CLUSTER",
        "UPSTREAM_HOST",
        "UPSTREAM_REMOTE_ADDRESS",
        "VIRTUAL_CLUSTER_NAME",
    }
)
# What is known only when a request is over, and so makes sense in logs alone.
_LOGGED = frozenset(
    {
        "ACCESS_LOG_TYPE",
        "BYTES_SENT",
        "CONNECTION_TERMINATION_DETAILS",
        "DURATION",
        "GRPC_STATUS",
        "REQUEST_DURATION",
        "RESPONSE_DURATION",
        "RESPONSE_TX_DURATION",
        "TRACE_ID",
        "UPSTREAM_CLUSTER_RAW",
        "UPSTREAM_REQUEST_ATTEMPT_COUNT",
        "UPSTREAM_TRANSPORT_FAILURE_REASON",
    }
)
# What is known only once there is a route, a backend or an answer.
_LATER = frozenset(
    {
        "RESPONSE_CODE",
        "RESPONSE_CODE_DETAILS",
        "RESPONSE_FLAGS",
        "ROUTE_NAME",
        "UPSTREAM_CLUSTER",
        "UPSTREAM_HOST",
        "UPSTREAM_REMOTE_ADDRESS",
        "VIRTUAL_CLUSTER_NAME",
        "RESP",
        "DYNAMIC_METADATA",
        "FILTER_STATE",
    }
)
_WITH_ARGUMENT = frozenset({"REQ", "RESP", "DYNAMIC_METADATA", "FILTER_STATE", "QUERY_PARAM", "ENVIRONMENT"})
COMMANDS = _PLAIN | _LOGGED | _WITH_ARGUMENT
"""All commands of Envoy that a value can have."""

_OPTIONAL_ARGUMENT = frozenset({"START_TIME"})
_COMMAND = re.compile(r"%(?:%|([A-Z0-9_]+)(\(([^()%]*)\))?(:[0-9]{1,4})?%)?")
_ARGUMENT = re.compile(r"[A-Za-z0-9:?._-]{1,128}")
_HEADERS = re.compile(r":?[A-Za-z0-9._-]{1,64}(\?:?[A-Za-z0-9._-]{1,63})?")
# What Envoy takes of arguments, where that is not any text: a header and another in its place, a key and its form.
_ARGUMENTS = {
    "REQ": (_HEADERS, "x-name?x-other"),
    "RESP": (_HEADERS, "x-name?x-other"),
    "FILTER_STATE": (re.compile(r"[A-Za-z0-9?._-]{1,128}(:(PLAIN|TYPED|FIELD:[A-Za-z0-9?._-]{1,64}))?"), "a.key:PLAIN"),
}


def check_format(
    value: str, path: str, report: Report, *, logs: bool = False, early: bool = False, by_route: bool = False
) -> None:
    """Judge a value with commands.

    `logs`: one that is filled in when the request is over. `early`: one that is before there is a route. `by_route`:
    one whose writer may own no more than a route, and must not read what the proxy alone knows.
    """
    plain = _PLAIN | _LOGGED if logs else _PLAIN
    for found in _COMMAND.finditer(value):
        name, _, argument, length = found.groups()
        if found.group() == "%%":
            continue
        if name is None:
            message = f"after the '%' at character {found.start() + 1} stands no command of Envoy's"
            report.error("InvalidFormat", path, message, "write `%%` for a plain '%', or a command like `%PROTOCOL%`")
            return
        if name not in plain | _WITH_ARGUMENT:
            message = f"'{shown(name)}' is no command that can stand in {'a log' if logs else 'a header'}"
            fix = f"write one of {', '.join(sorted(plain | _WITH_ARGUMENT))}"
            report.error("UnknownValue", path, message, fix)
        elif early and name in _LATER:
            message = f"{name} is not known yet when the request comes in"
            report.error("NotAllowed", path, message, "set such a header in a RoutePolicy")
        elif by_route and name == "ENVIRONMENT":
            message = "whoever owns a route must not read the environment of the proxy"
            report.error("NotAllowed", path, message, "set such a header in a ClientPolicy of the Gateway")
        elif name in _WITH_ARGUMENT and not (argument and _ARGUMENT.fullmatch(argument)):
            message = f"{name} needs an argument of letters, digits and ':', '?', '.', '_', '-'"
            report.error("InvalidFormat", path, message, f"write it as in `%{name}(x-name)%`")
        elif argument and name in _ARGUMENTS and not _ARGUMENTS[name][0].fullmatch(argument):
            message = f"'{shown(argument)}' is nothing that {name} can show"
            report.error("InvalidFormat", path, message, f"write it as in `%{name}({_ARGUMENTS[name][1]})%`")
        elif length is not None and name not in _WITH_ARGUMENT:
            report.error("InvalidFormat", path, f"{name} cannot be cut to a length", f"leave out `{length}`")
        elif name not in _WITH_ARGUMENT | _OPTIONAL_ARGUMENT and argument is not None:
            report.error("InvalidFormat", path, f"{name} takes no argument", f"write `%{name}%`")
