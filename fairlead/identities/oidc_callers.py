"""The way in by OIDC tokens of listed issuers (`--oidc-issuers`), before whoever else reviews tokens.

A token is for exactly one of both: whoever names a listed issuer is judged by that issuer's keys and by nobody else.
The file is read again when it changes; one that cannot be used leaves the last good one in force, and the log says so.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from discovery.kubernetes.token_review import Callers
from fairlead.errors import UsageError
from sds.oidc import InvalidOidcToken, Issuer, UnusableIssuers, issuer_named, judge, read_issuers
from xds.server.authentication import CannotReviewError, NotAuthenticatedError, Reviewer, Vouched

_log = logging.getLogger(__name__)
_Stamp = tuple[int, int, int]


class OidcCallers:
    """A `Reviewer` of listed issuers' tokens; `others` reviews all other tokens. `clock` is the wall clock."""

    def __init__(self, path: Path, others: Reviewer, *, clock: Callable[[], float] = time.time) -> None:
        """Read the file.

        Raises:
            UsageError: it cannot be used.
        """
        self._path = path
        self._others = others
        self._clock = clock
        self._callers = Callers()
        try:
            self._stamp = self._stamped()
            self._issuers: Mapping[str, Issuer] = read_issuers(path.read_bytes())
        except (OSError, UnusableIssuers) as error:
            raise UsageError(f"--oidc-issuers: {path} cannot be used: {error}. Fix: correct the file") from None

    async def review(self, token: str, *, caller: str) -> Vouched:
        """See `Reviewer.review`."""
        self._read_again()
        if issuer_named(token) not in self._issuers:
            return await self._others.review(token, caller=caller)
        now = self._clock()
        if self._callers.must_wait(caller, now):
            raise CannotReviewError(f"{caller} has shown too many bad tokens lately and has to wait")
        try:
            subject = judge(token, self._issuers, now=now)
        except InvalidOidcToken as error:
            self._callers.bad(caller, now)
            raise NotAuthenticatedError(f"OIDC token: {error}") from None
        return Vouched(subject.namespace, subject.account, subject.expires_at)

    def _read_again(self) -> None:
        try:
            stamp = self._stamped()
            if stamp == self._stamp:
                return
            self._stamp = stamp
            self._issuers = read_issuers(self._path.read_bytes())
        except (OSError, UnusableIssuers) as error:
            _log.warning("--oidc-issuers: what was read before stays in force: %s: %s", self._path, error)
        else:
            _log.info("--oidc-issuers: %d issuers are believed", len(self._issuers))

    def _stamped(self) -> _Stamp:
        found = self._path.stat()
        return found.st_mtime_ns, found.st_size, found.st_ino
