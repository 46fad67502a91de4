"""An instance that is put into Consul from outside: what is sent to an agent, and what its answers mean for the next.

The instance has a check with a TTL: it turns critical, and so leaves, when nothing is heard of it for so long, and
Consul removes it some time afterwards.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from fairlead.client import Client, NobodyListensError, RefusedError, Trust, segment
from fairlead.consul.address import check_url
from fairlead.errors import CommandError, UsageError, oserror_words

NAMESPACE_KEY = "fairlead-namespace"
REGISTRATION_KEY = "fairlead-registration"
"""The meta key of what a server registered: which instance it is, and that it is ours."""
TTL_KEY = "fairlead-ttl"
PORT_NAME_KEY = "fairlead-port-name"
OWN_KEYS = frozenset({NAMESPACE_KEY, REGISTRATION_KEY, TTL_KEY, PORT_NAME_KEY})

_META_KEY = re.compile(r"[A-Za-z0-9_-]{1,128}")
_MOST_META = 60  # Consul takes 64 pairs; some are ours
_LONGEST = 512
_HEAVIEST = 65535
_SHORTEST_REAPING = 60.0  # seconds, Consul's own least
_REAPING_TTLS = 10
_PLAIN_TRUST = Trust()
_GONE = frozenset({404, 500})  # agents before 1.11 say 500 where a check is not there


class UnfitError(Exception):
    """What Consul would not take, or take for something else: which field, what of it, and the fix."""

    def __init__(self, field: str, problem: str, fix: str) -> None:
        super().__init__(f"{problem}. Fix: {fix}")
        self.field = field
        self.problem = problem
        self.fix = fix


class Instance(msgspec.Struct, frozen=True, kw_only=True):
    """What is registered; `namespace` empty: the one that the reader gives. `marks` are meta beside the labels."""

    service: str
    id: str
    address: str
    port: int
    namespace: str = ""
    labels: Mapping[str, str] = {}
    weight: int = 1
    ttl: float = 15.0
    marks: Mapping[str, str] = {}

    @property
    def check_id(self) -> str:
        """The name of its check."""
        return f"fairlead:{self.id}"


def body(instance: Instance) -> dict[str, Any]:
    """The registration as Consul's agent takes it.

    Raises:
        UnfitError: it cannot be so there.
    """
    for key, value in instance.labels.items():
        if not _META_KEY.fullmatch(key) or len(value) > _LONGEST:
            fix = f"letters, digits, '-' and '_', at most 128, and a value of at most {_LONGEST}"
            raise UnfitError("label", f"Consul takes no {key!r}", fix)
        if key in OWN_KEYS:
            raise UnfitError("label", f"{key!r} is what Fairlead writes into Consul itself", "give it another name")
    if len(instance.labels) > _MOST_META:
        raise UnfitError("label", f"Consul takes no more than {_MOST_META}", "leave some out")
    if not 1 <= instance.weight <= _HEAVIEST:
        raise UnfitError("weight", f"Consul takes 1 to {_HEAVIEST}", "write one of these")
    namespace = {NAMESPACE_KEY: instance.namespace} if instance.namespace else {}
    return {
        "Name": instance.service,
        "ID": instance.id,
        "Address": instance.address,
        "Port": instance.port,
        "Meta": {**instance.labels, **namespace, **instance.marks},
        "Weights": {"Passing": instance.weight, "Warning": instance.weight},
        "Check": {
            "CheckID": instance.check_id,
            "Name": "heard of by fairlead register",
            "TTL": f"{instance.ttl:g}s",
            "Status": "passing",
            "DeregisterCriticalServiceAfter": f"{max(_SHORTEST_REAPING, _REAPING_TTLS * instance.ttl):g}s",
        },
    }


class ConsulRegistrar:
    """Registers one instance at an agent and says that it is alive. The file with the token is read each time."""

    def __init__(
        self,
        url: str,
        instance: Instance,
        *,
        token_file: str = "",
        trust: Trust = _PLAIN_TRUST,
        timeout: float = 5.0,
    ) -> None:
        """Raises UsageError for what cannot be."""
        check_url(url, "--consul")
        if trust != _PLAIN_TRUST and not url.startswith("https:"):
            raise UsageError(f"--consul: {url} is not asked over TLS. Fix: write https://, or leave the files out")
        if bool(trust.certificate) != bool(trust.key):
            raise UsageError("--consul-cert and --consul-key belong together. Fix: name both files, or neither")
        self._url = url.rstrip("/")
        self._instance = instance
        try:
            self._body = body(instance)
        except UnfitError as unfit:
            raise UsageError(f"--{unfit.field}: {unfit}") from None
        self._token_file = token_file
        self._trust = trust
        self._timeout = timeout
        self._registered = False

    def alive(self) -> None:
        """Register it, or say that it is alive; one that the agent has forgotten is registered again.

        Raises:
            CommandError: it cannot be.
        """
        if self._registered:
            try:
                self._put(f"/v1/agent/check/pass/{segment(self._instance.check_id)}")
            except RefusedError as refused:
                if refused.status not in _GONE:
                    raise
                self._registered = False
            else:
                return
        self._put("/v1/agent/service/register", self._body)
        self._put(f"/v1/agent/check/pass/{segment(self._instance.check_id)}")
        self._registered = True

    def leave(self) -> None:
        """Deregister it. Raises CommandError."""
        self._put(f"/v1/agent/service/deregister/{segment(self._instance.id)}")
        self._registered = False

    def _put(self, path: str, content: Any = None) -> None:
        client = Client(self._url, token=self._token(), timeout=self._timeout, trust=self._trust)
        try:
            client.request("PUT", path, body=content)
        except NobodyListensError as error:
            raise CommandError(
                f"nothing listens at {self._url}: does the Consul agent run there?"
                " Fix: start it, or name its address with --consul"
            ) from error

    def _token(self) -> str:
        if not self._token_file:
            return ""
        try:
            return Path(self._token_file).read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            words = oserror_words(error) if isinstance(error, OSError) else "it is no token"
            fix = "name a file that holds a token"
            raise CommandError(f"--consul-token-file: {self._token_file}: {words}. Fix: {fix}") from None
