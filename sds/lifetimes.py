"""How long certificates of workloads live, which requests for another life are errors, and the clock for all that."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Final

from mesh.spiffe import SpiffeId, TrustDomain
from sds.authority import RefusedIssue

SHORTEST: Final = dt.timedelta(hours=1)
DEFAULT: Final = dt.timedelta(hours=24)
LONGEST: Final = dt.timedelta(days=7)


def utc_now() -> dt.datetime:
    """The time."""
    return dt.datetime.now(dt.UTC)


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """What an authority grants. `shortest` below an hour is for tests and demonstrations."""

    default: dt.timedelta = DEFAULT
    shortest: dt.timedelta = SHORTEST
    longest: dt.timedelta = LONGEST

    def granted(self, asked: dt.timedelta | None) -> dt.timedelta:
        """The life of a certificate that is asked for.

        Raises:
            RefusedIssue: too long, or too short. It is not shortened in silence: who asks plans by it.
        """
        if asked is None:
            return self.default
        if asked > self.longest:
            raise RefusedIssue(f"a life of {asked} is asked for; at most {self.longest} is granted")
        if asked < self.shortest:
            raise RefusedIssue(f"a life of {asked} is asked for; at least {self.shortest} is granted")
        return asked


def check_identity(identity: SpiffeId, trust_domain: TrustDomain) -> None:
    """Refuse what an authority of a trust domain can give to no workload.

    Raises:
        RefusedIssue: another trust domain's identity, or the trust domain itself.
    """
    if identity.trust_domain != trust_domain:
        raise RefusedIssue(f"{identity} is not of the trust domain {trust_domain}")
    if not identity.path:
        raise RefusedIssue(f"{identity} is an authority's identity, not a workload's")
