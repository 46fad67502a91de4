"""Hostnames beyond their syntax: Gateway API allows no IP addresses, and DNS no label over 63 characters."""

from __future__ import annotations

import re

from mesh.problems import Report

# Only IPv4 looks like a hostname; the syntax already refuses colons. A last label of digits alone is no domain either.
_IPV4 = re.compile(r"[0-9]+(\.[0-9]+){3}")


def check_hostname(hostname: str, path: str, report: Report) -> None:
    """Judge one hostname, with or without a wildcard."""
    if hostname[-1].isdigit() and _IPV4.fullmatch(hostname):
        report.error(
            "IPHostname", path, f"'{hostname}' is an IP address, not a hostname", "write a DNS name, or leave it out"
        )
    elif len(hostname) > 63 and any(len(label) > 63 for label in hostname.split(".")):
        report.error("InvalidFormat", path, "a label of the hostname has more than 63 characters", "shorten it")
