"""An authority, agents that get their identities from it, and Envoys that get theirs from the agents."""

from __future__ import annotations

import base64
import json
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

from fairlead.processes import Child, Children, free_port
from tests.support.programs import FAIRLEAD, Serving, start_serve

SHORT = ("--ca-leaf-lifetime-min", "5", "--ca-leaf-lifetime")
ROOT = "/api/v1/authority"


class Mesh:
    """A server with a built-in authority; leaves live for `life` seconds."""

    def __init__(
        self,
        children: Children,
        config: str,
        *,
        life: int = 3_600,
        arguments: Sequence[str] = (),
        name: str = "serve",
        env: Mapping[str, str] | None = None,
    ) -> None:
        """`name` tells several of them apart."""
        self._children = children
        self._name = name
        self._env = env or {}
        folder = children.folder / "config"
        folder.mkdir(exist_ok=True)
        self.file = folder / "config.yaml"
        self.file.write_text(config)
        self.xds, self.join, self.api = free_port(), free_port(), free_port()
        self._arguments = ["--files", str(folder), "--ca", "store", "--xds-tokens", f"127.0.0.1:{self.join}"]
        self._arguments += [*SHORT, str(life), *arguments]
        self.serving = self.serve()

    def serve(self, name: str = "") -> Serving:
        """Start the server, again."""
        name = name or self._name
        env = {"FAIRLEAD_CA_PASSPHRASE": "a passphrase of some length", **self._env}
        self.serving = start_serve(
            self._children, *self._arguments, name=name, xds=self.xds, api=self.api, env=env, secure=True
        )
        return self.serving

    def roots(self) -> Path:
        """The roots to believe, as a file."""
        path = self._children.folder / f"{self._name}-roots.pem"
        keys = json.loads(self.serving.client.request("GET", f"{ROOT}/bundle").body)["keys"]
        pems = (_pem(certificate) for key in keys for certificate in key.get("x5c", ()))
        path.write_text("".join(pems))
        return path

    def join_token(self, account: str, namespace: str = "default", ttl: float = 600) -> str:
        """A token for an agent."""
        body = {"serviceAccount": account, "namespace": namespace, "ttlSeconds": ttl}
        token: str = self.serving.client.request("POST", f"{ROOT}/join-tokens", body=body).json()["token"]
        return token

    def agent(
        self,
        account: str,
        *,
        token: str = "",
        name: str = "",
        token_file: str = "",
        ca: str = "",
        roots: str = "",
        arguments: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
    ) -> tuple[Child, Path]:
        """An agent, and its socket.

        `token_file` and `ca` are files that others keep, in place of ones of its own; `roots` are believed beside those
        of the authority.
        """
        label = name or f"agent-{account}"
        if not token_file:
            own = self._children.folder / f"{label}.token"
            own.write_text(token or self.join_token(account))
            own.chmod(0o600)
            token_file = str(own)
        path = self._children.folder / label / "sds.sock"
        command = [*FAIRLEAD, "agent", "--server", f"127.0.0.1:{self.xds}", "--join", f"127.0.0.1:{self.join}"]
        if roots:
            believed = self._children.folder / f"{label}.pem"
            believed.write_text(self.roots().read_text() + roots)
            ca = str(believed)
        command += ["--ca", ca or str(self.roots()), "--token-file", token_file, "--socket", str(path), *arguments]
        return self._children.start(label, command, env=env), path

    def has_identity(self, agent: Child) -> bool:
        """Whether an agent said that it has a certificate."""
        return "spiffe://" in agent.log.read_text()


def _pem(certificate: str) -> str:
    body = "\n".join(textwrap.wrap(base64.b64encode(base64.b64decode(certificate)).decode(), 64))
    return f"-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n"
