"""Vault's PKI engine as the authority: it signs callers' requests by a role, with the names that we give it.

The role has to allow the trust domain's URIs and take names from the parameters (`use_csr_sans=false`,
`use_csr_common_name=false`, `allowed_uri_sans=spiffe://<trust domain>/*`, `require_cn=false`). Its token stands in a
file, read for each request, so that whoever renews it need not tell us.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import http.client
import ipaddress
import json
import logging
import ssl
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlsplit

from mesh.spiffe import SpiffeId, TrustDomain
from sds.authority import AuthorityUnavailable, Issued, RefusedIssue
from sds.certificates import general_names
from sds.lifetimes import Lifetimes, check_identity
from sds.outer import OuterAuthority, answered, read_roots, request_pem
from sds.sealing import SealError, read_secret_file

_TIMEOUT: Final = 10.0
_MAX_ANSWER: Final = 1 << 20
_LOOK_SECONDS: Final = 60.0
_RETRY_SECONDS: Final = 5.0

_log = logging.getLogger(__name__)


class VaultAuthority(OuterAuthority):
    """See `sds.authority.Authority`. `url` is Vault's address, `mount` that of the engine."""

    unknown = "Vault has not said yet what is to be trusted"

    def __init__(
        self,
        trust_domain: TrustDomain,
        url: str,
        mount: str,
        role: str,
        token_file: Path,
        *,
        authorities: str = "",
        lifetimes: Lifetimes,
        clock: Callable[[], dt.datetime],
    ) -> None:
        super().__init__(trust_domain, clock)
        split = urlsplit(url)
        if split.scheme not in {"https", "http"} or not split.hostname:
            raise ValueError(f"{url!r} is no address of Vault")
        self._host, self._port = split.hostname, split.port or (443 if split.scheme == "https" else 8_200)
        self._tls = ssl.create_default_context(cafile=authorities or None) if split.scheme == "https" else None
        self._mount, self._role, self._token_file, self._lifetimes = mount, role, token_file, lifetimes

    def _pause(self) -> float:
        return _RETRY_SECONDS if self.trouble else _LOOK_SECONDS

    async def _look(self) -> None:
        pem = await self._ask("GET", f"/v1/{self._mount}/ca_chain", None) or await self._ask(
            "GET", f"/v1/{self._mount}/ca/pem", None
        )
        try:
            certificates = read_roots(pem, self._trust_domain)
        except ValueError as error:
            raise AuthorityUnavailable(f"what Vault says is to be trusted cannot be: {error}") from None
        roots = certificates[-1:]  # a chain begins with the one that signs and ends with the root
        self._trust(roots)

    async def issue(
        self,
        public_key: Any,
        identity: SpiffeId,
        *,
        lifetime: dt.timedelta | None = None,
        dns_names: tuple[str, ...] = (),
        request: bytes | None = None,
    ) -> Issued:
        """See `Authority.issue`."""
        check_identity(identity, self._trust_domain)
        granted = self._lifetimes.granted(lifetime)
        general_names(dns_names)  # refuses what is no name
        addresses = [name for name in dns_names if _is_address(name)]
        body = {
            "csr": request_pem(request, public_key, identity, names_needed=False).decode(),
            "uri_sans": str(identity),
            "alt_names": ",".join(name for name in dns_names if name not in addresses),
            "ip_sans": ",".join(addresses),
            "exclude_cn_from_sans": True,
            "ttl": f"{int(granted.total_seconds())}s",
            "format": "pem",
        }
        path = f"/v1/{self._mount}/sign/{quote(self._role, safe='')}"
        answer = _data(await self._ask("POST", path, json.dumps(body).encode()))
        chain = [answer.get("certificate"), *(answer.get("ca_chain") or [answer.get("issuing_ca")])]
        pem = "\n".join(one for one in chain if isinstance(one, str)).encode()
        found = answered(pem, public_key, identity, self.bundle().roots, now=self._clock(), longest=granted)
        self.issued += 1
        return found

    async def _ask(self, method: str, path: str, body: bytes | None) -> bytes:
        return await asyncio.to_thread(self._ask_now, method, path, body)

    def _ask_now(self, method: str, path: str, body: bytes | None) -> bytes:
        try:
            token = read_secret_file(self._token_file).strip().decode("ascii")
        except (SealError, UnicodeDecodeError) as error:
            raise AuthorityUnavailable(f"Vault's token: {error}") from None
        headers = {"X-Vault-Token": token, "X-Vault-Request": "true", "Content-Type": "application/json"}
        connection = (
            http.client.HTTPSConnection(self._host, self._port, timeout=_TIMEOUT, context=self._tls)
            if self._tls is not None
            else http.client.HTTPConnection(self._host, self._port, timeout=_TIMEOUT)
        )
        try:
            connection.request(method, path, body=body, headers=headers)
            response = connection.getresponse()
            answer = response.read(_MAX_ANSWER + 1)
        except (OSError, http.client.HTTPException) as error:
            words = str(error) or type(error).__name__
            raise AuthorityUnavailable(f"Vault at {self._host}:{self._port} cannot be asked: {words}") from None
        finally:
            connection.close()
        if response.status == http.client.BAD_REQUEST:
            raise RefusedIssue(f"Vault refused: {_words(answer)}")
        if response.status >= http.client.BAD_REQUEST or len(answer) > _MAX_ANSWER:
            raise AuthorityUnavailable(f"Vault answered {response.status}: {_words(answer)}")
        return answer


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _data(answer: bytes) -> Mapping[str, Any]:
    try:
        found = json.loads(answer)["data"]
    except (ValueError, KeyError, TypeError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise AuthorityUnavailable("Vault's answer is none of its PKI engine's")
    return found


def _words(answer: bytes) -> str:
    """What Vault says is wrong; its errors hold no secret."""
    try:
        errors = json.loads(answer)["errors"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return "without words"
    return "; ".join(str(one) for one in errors)[:500] if isinstance(errors, list) else "without words"
