"""How to reach a cluster's API server and as whom: from a kubeconfig or from the pod this program runs in.

The official client reads both (`kubernetes.aio.config`): contexts, exec plugins, tokens in files, OIDC. What comes out
is one value, `Access`, compared by content, so that whoever holds a connection sees when it must make a new one. What
can be read again is read again: tokens are renewed in their files, certificates too.
"""

from __future__ import annotations

import asyncio
import base64
import os
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import msgspec
import yaml

from discovery.kubernetes.api import UnreachableError

EXEC_SECONDS = 30.0
REFRESH_SECONDS = 60.0
# A token is renewed this long before it ends: a request may be under way for a while, and clocks differ.
_EARLY_SECONDS = 30.0
_CLUSTER_FIELDS = (
    "server",
    "tls-server-name",
    "insecure-skip-tls-verify",
    "certificate-authority-data",
    "proxy-url",
    "disable-compression",
)
_EXEC_EXTENSION = "client.authentication.k8s.io/exec"


class Access(msgspec.Struct, frozen=True):
    """Where an API server is and what to show it. Certificates and keys are PEM; `ca` empty: the system's authorities.

    `authorization` is the header's value; empty where a client certificate (or nothing) says who we are.
    """

    server: str
    authorization: str = ""
    ca: bytes = b""
    certificate: bytes = b""
    key: bytes = b""
    verify: bool = True
    server_name: str = ""
    proxy: str = ""

    def __repr__(self) -> str:
        """Keep tokens and keys out of logs and tracebacks."""
        return f"Access({self.server!r}, [redacted])"


class Credentials(Protocol):
    """Where `Access` comes from."""

    async def load(self, *, refused: bool = False) -> Access:
        """What holds now; cheap where nothing is due. `refused`: the last one was, so a cached one will not do.

        Raises:
            UnreachableError: nothing can be read, or a plugin failed; the text says what to mend.
        """


class InCluster:
    """The service account of the pod that we run in. `environ` and the paths are the kubelet's."""

    def __init__(self, environ: Any = os.environ, *, folder: str = "/var/run/secrets/kubernetes.io/serviceaccount"):
        self._environ = environ
        self._folder = Path(folder)
        self._access: Access | None = None
        self._read_at = 0.0

    async def load(self, *, refused: bool = False) -> Access:
        """See `Credentials.load`."""
        if self._access is not None and not refused and time.monotonic() - self._read_at < REFRESH_SECONDS:
            return self._access
        from kubernetes.aio.client import Configuration
        from kubernetes.aio.config import ConfigException
        from kubernetes.aio.config.incluster_config import InClusterConfigLoader

        configuration = Configuration()
        loader = InClusterConfigLoader(
            str(self._folder / "token"), str(self._folder / "ca.crt"), try_refresh_token=False, environ=self._environ
        )
        try:
            loader.load_and_set(configuration)
            self._access = _access(configuration)
        except (ConfigException, OSError) as error:
            raise UnreachableError(
                f"there is no service account of a pod: {error}. Fix: run inside a cluster, or name a kubeconfig file"
            ) from None
        self._read_at = time.monotonic()
        return self._access


class KubeConfig:
    """A kubeconfig file and one of its contexts; empty: the file's current one."""

    def __init__(self, path: str, context: str = "") -> None:
        self._path = Path(path).expanduser()
        self._context = context
        self._loader: Any = None
        self._stamp: tuple[int, int, int] | None = None
        self._access: Access | None = None
        self._read_at = 0.0

    async def load(self, *, refused: bool = False) -> Access:
        """See `Credentials.load`."""
        stamp = self._stat()
        changed = self._loader is None or stamp != self._stamp
        fresh = time.monotonic() - self._read_at < REFRESH_SECONDS and not self._expiring()
        if self._access is not None and fresh and not (changed or refused):
            return self._access
        if changed:
            self._loader = await asyncio.to_thread(self._parsed)
            self._stamp = stamp
        if refused:
            self._loader.expires = 0.0
        self._access = await self._loaded()
        self._read_at = time.monotonic()
        return self._access

    def _expiring(self) -> bool:
        return self._loader is not None and self._loader.expires < time.time() + _EARLY_SECONDS

    def _stat(self) -> tuple[int, int, int]:
        try:
            status = self._path.stat()
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise UnreachableError(
                f"the kubeconfig {self._path} cannot be read: {reason}. Fix: name a file that is there"
            ) from None
        return status.st_ino, status.st_size, status.st_mtime_ns

    def _parsed(self) -> Any:
        from kubernetes.aio.config import ConfigException
        from kubernetes.aio.config.kube_config import KubeConfigMerger

        try:
            merged = KubeConfigMerger(str(self._path)).config
            return _loader_class()(
                config_dict=merged, active_context=self._context or None, config_base_path=str(self._path.parent)
            )
        except (ConfigException, yaml.YAMLError, UnicodeDecodeError, OSError) as error:
            raise UnreachableError(f"the kubeconfig {self._path} cannot be used: {_one_line(error)}") from None
        except (AttributeError, KeyError, TypeError):
            raise UnreachableError(
                f"the kubeconfig {self._path} is not one. Fix: `kubectl config view` must show it"
            ) from None

    async def _loaded(self) -> Access:
        from kubernetes.aio.client import Configuration
        from kubernetes.aio.config import ConfigException, kube_config

        configuration = Configuration()
        try:
            await self._loader.load_and_set(configuration)
            return _access(configuration)
        except (ConfigException, OSError, ValueError, TypeError, KeyError) as error:
            raise UnreachableError(f"the kubeconfig {self._path}: {_one_line(error)}") from None
        finally:
            # The client writes keys into temporary files and leaves them until the program ends; we have read them.
            kube_config._cleanup_temp_files()


def _loader_class() -> Any:
    from kubernetes.aio.config import ConfigException
    from kubernetes.aio.config.kube_config import KubeConfigLoader

    class Loader(KubeConfigLoader):  # type: ignore[misc]
        """The client's loader, but a plugin that fails is an error and not an anonymous request."""

        expires = float("inf")
        """When what the exec plugin gave ends, in seconds since the epoch."""
        _given: dict[str, Any] | None = None

        async def load_from_exec_plugin(self) -> bool:
            if self._given is None or self.expires < time.time() + _EARLY_SECONDS:
                config, base = self._user["exec"], self._get_base_path(self._cluster.path)
                told = _told(self._cluster.value, base) if config.safe_get("provideClusterInfo") else None
                self._given = await _plugin(config, told)
                self.expires = _timestamp(self._given.get("expirationTimestamp"))
            given = self._given
            if given.get("token"):
                self.token = f"Bearer {given['token']}"
            if given.get("clientCertificateData") and given.get("clientKeyData"):
                self._pem = given["clientCertificateData"].encode(), given["clientKeyData"].encode()
            elif not given.get("token"):
                raise ConfigException("the exec plugin gave neither a token nor a client certificate")
            return True

        def _load_cluster_info(self) -> None:
            # The files of the last time are gone.
            for name in ("cert_file", "key_file"):
                self.__dict__.pop(name, None)
            super()._load_cluster_info()

        def _set_config(self, client_configuration: Any) -> None:
            super()._set_config(client_configuration)
            client_configuration.pem = getattr(self, "_pem", None)

    return Loader


def _told(cluster: dict[str, Any], base: str) -> dict[str, Any]:
    """A kubeconfig's cluster as a plugin is told of it (`client.authentication.k8s.io`, Cluster).

    File names are relative to `base`.
    """
    told = {name: cluster[name] for name in _CLUSTER_FIELDS if cluster.get(name)}
    if cluster.get("certificate-authority"):
        authorities = Path(base, cluster["certificate-authority"]).read_bytes()
        told.setdefault("certificate-authority-data", base64.b64encode(authorities).decode())
    for extension in cluster.get("extensions") or []:
        if extension.get("name") == _EXEC_EXTENSION:
            told["config"] = extension.get("extension")
    return told


async def _plugin(config: Any, cluster: dict[str, Any] | None) -> dict[str, Any]:
    """The `status` that an exec plugin prints; it gets no terminal to ask at, and does not outlive its time.

    `cluster` is what it is told of the cluster, None where it does not want to know.
    """
    from kubernetes.aio.config import ConfigException
    from kubernetes.aio.config.exec_provider import ExecProvider

    provider = ExecProvider(config)
    command = provider.args[0]
    spec: dict[str, Any] = {"interactive": False}
    if cluster is not None:
        spec["cluster"] = cluster
    asked = {"apiVersion": provider.api_version, "kind": "ExecCredential", "spec": spec}
    environ = provider.env | {"KUBERNETES_EXEC_INFO": msgspec.json.encode(asked).decode()}
    pipe, nothing = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
    try:
        process = await asyncio.create_subprocess_exec(
            *provider.args, env=environ, stdin=nothing, stdout=pipe, stderr=pipe
        )
    except OSError as error:
        raise ConfigException(f"the exec plugin {command} cannot be run: {error.strerror}") from None
    try:
        async with asyncio.timeout(EXEC_SECONDS):
            output, complaint = await process.communicate()
    except TimeoutError:
        raise ConfigException(f"the exec plugin {command} did not end within {EXEC_SECONDS:g} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        words = complaint.decode("utf-8", "replace")
        raise ConfigException(f"the exec plugin {command} failed with {process.returncode}: {words}")
    try:
        return msgspec.json.decode(output, type=_ExecCredential).status
    except msgspec.DecodeError as error:
        raise ConfigException(f"the exec plugin {command} printed no ExecCredential: {error}") from None


class _ExecCredential(msgspec.Struct):
    status: dict[str, Any]


def _timestamp(text: Any) -> float:
    """An RFC 3339 time in seconds since the epoch; never, where there is none that can be read."""
    try:
        found = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return float("inf")
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def _access(configuration: Any) -> Access:
    pem = getattr(configuration, "pem", None) or (_read(configuration.cert_file), _read(configuration.key_file))
    return Access(
        server=str(configuration.host).rstrip("/"),
        # A token's file may end in a newline, which no header may hold.
        authorization=" ".join(configuration.api_key.get("BearerToken", "").split()),
        ca=_read(configuration.ssl_ca_cert),
        certificate=pem[0],
        key=pem[1],
        verify=bool(configuration.verify_ssl),
        server_name=configuration.tls_server_name or "",
        proxy=configuration.proxy or "",
    )


def _read(path: str | None) -> bytes:
    return Path(path).read_bytes() if path else b""


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:500] or type(error).__name__
