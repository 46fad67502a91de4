"""What Fairlead's account asked of the local node's API server, by the audit log that this keeps."""

from __future__ import annotations

import json
import subprocess
from typing import NamedTuple

from tests.support.kubernetes import KUBE_NODE

_ACCOUNT = "system:serviceaccount:fairlead-system:fairlead"


class Asked(NamedTuple):
    """One request: what for, and the answer's status."""

    verb: str
    group: str
    resource: str
    name: str
    namespace: str
    code: int


def asked(since: str) -> list[Asked]:
    """What Fairlead's account has asked of the API server since then."""
    done = subprocess.run([str(KUBE_NODE), "audit"], capture_output=True, text=True, check=True)
    found = []
    for line in done.stdout.splitlines():
        entry = json.loads(line)
        of = entry.get("objectRef")
        if entry["user"]["username"] == _ACCOUNT and of is not None and entry["requestReceivedTimestamp"] >= since:
            resource = "/".join(filter(None, (of["resource"], of.get("subresource"))))
            code = entry.get("responseStatus", {}).get("code", 0)
            found.append(
                Asked(
                    entry["verb"], of.get("apiGroup", ""), resource, of.get("name", ""), of.get("namespace", ""), code
                )
            )
    return found
