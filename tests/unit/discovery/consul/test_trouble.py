"""What agents' errors are to people."""

from __future__ import annotations

import pytest

from discovery.consul.http import ConsulError, UnreachableError
from discovery.consul.trouble import trouble


@pytest.mark.parametrize(
    ("status", "message", "code"),
    [
        (403, "Permission denied", "Forbidden"),
        (429, "", "RateLimited"),
        (503, "rate limit exceeded for operation that can only be performed by the leader", "RateLimited"),
        (500, "No cluster leader", "NoLeader"),
        (500, "No known Consul servers", "NoLeader"),
        (503, 'connection error: desc = "transport: Error while dialing dial tcp 127.0.0.1:8300: refused"', "NoLeader"),
        (500, "rpc error getting client: failed to get conn: dial tcp 127.0.0.1:8300: refused", "NoLeader"),
        (500, "No path to datacenter", "NoPath"),
        (400, 'Invalid query parameter: "ns" - Namespaces are a Consul Enterprise feature', "NotEnterprise"),
        (400, "Client sent an HTTP request to an HTTPS server.", "Unreachable"),
        (500, "something else", "Failed"),
    ],
)
def test_an_error_is_told_by_what_can_be_done_about_it(status: int, message: str, code: str) -> None:
    assert trouble(ConsulError(status, message)).code == code


def test_no_answer_is_unreachable() -> None:
    assert trouble(UnreachableError("Connection refused")).code == "Unreachable"
