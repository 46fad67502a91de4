"""A real Vault for tests: its core, its HTTP API and its PKI engine, all in memory (`real_vault.go`).

Vault's module replaces its SDK by the one in its own tree, which no Go proxy has. The SDK of the same day stands in for
it, but for one check that it makes of Vault's own code and that this Vault does not pass: a path for enterprises, which
is no part of what is tested, lacks a callback, and the SDK ends the request over it. `build` takes the check out.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from fairlead.processes import Children

VERSION: Final = "v1.14.1"
SDK: Final = "v0.9.2"
API: Final = "v1.9.2"
_SOURCE = Path(__file__).with_suffix(".go")
_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fairlead" / f"vault-{VERSION}"
_PROGRAM = _CACHE / "vault-in-memory"
_MODULE: Final = "github.com/hashicorp/vault"
_CHECK: Final = 'panic(fmt.Sprintf("Pattern %v defines a CreateOperation but no ExistenceCheck", p.Pattern))'


def vault_program() -> Path | None:
    """The program that `build` has made; None where it has not."""
    return _PROGRAM if os.access(_PROGRAM, os.X_OK) else None


def build() -> None:
    """Build it, once: some twenty minutes on 2 cores. Ends with what is missing, where something is."""
    if vault_program() is not None:
        return
    if not shutil.which("go"):
        sys.exit("Vault is built from its Go module, and there is no `go` on PATH. Fix: install golang (1.26 or newer)")
    print(f"building Vault {VERSION} from its Go module, once: some twenty minutes on 2 cores", flush=True)
    with tempfile.TemporaryDirectory() as made_in:
        folder = Path(made_in)
        (folder / "go.mod").write_text("module vault\n\ngo 1.26\n")
        shutil.copy(_SOURCE, folder / "main.go")
        _sdk(folder)
        for command in (
            ["get", f"{_MODULE}@{VERSION}", f"{_MODULE}/api@{API}"],
            ["mod", "edit", "-replace", f"{_MODULE}/sdk=./sdk"],
            ["mod", "tidy"],
            ["build", "-buildvcs=false", "-ldflags=-s -w", "-o", "vault-in-memory", "."],
        ):
            _go(folder, *command)
        _PROGRAM.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / "vault-in-memory", _PROGRAM.with_suffix(".new"))
        _PROGRAM.with_suffix(".new").replace(_PROGRAM)


def _sdk(folder: Path) -> None:
    """A copy of the SDK without the check."""
    found = json.loads(_go(folder, "mod", "download", "-json", f"{_MODULE}/sdk@{SDK}"))
    shutil.copytree(found["Dir"], folder / "sdk", copy_function=shutil.copyfile)
    for path in (folder / "sdk").rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    checked = folder / "sdk" / "framework" / "backend.go"
    text = checked.read_text()
    if text.count(_CHECK) != 2:
        sys.exit(f"the SDK {SDK} is another one than this was written for")
    checked.write_text(text.replace(_CHECK, ""))


def _go(folder: Path, *command: str) -> str:
    done = subprocess.run(["go", *command], cwd=folder, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(f"Vault could not be built: go {' '.join(command)} failed (see above)")
    return done.stdout


class RealVault:
    """One that runs; what is in it is gone with it."""

    def __init__(self, children: Children, program: Path) -> None:
        self.child = children.start("vault", [str(program)])
        children.wait_until(lambda: "http://" in self.child.log.read_text(), what="Vault to begin")
        self.address, self.token = self.child.log.read_text().split("http://")[1].split()[:2]
        self.address = f"http://{self.address}"

    def write(self, path: str, **body: Any) -> Mapping[str, Any]:
        """What an operator does with `vault write`; the data of the answer."""
        headers = {"X-Vault-Token": self.token}
        content = json.dumps(body).encode()
        asked = urllib.request.Request(f"{self.address}/v1/{path}", content, headers, method="POST")
        with urllib.request.urlopen(asked, timeout=30) as answer:
            found = json.loads(answer.read() or b"{}")
        return found.get("data") or found.get("auth") or {}

    def authority(self, trust_domain: str) -> str:
        """A PKI engine with an intermediate of a root that is in another, and the role `mesh`; where it is mounted."""
        root, made = f"root-{secrets.token_hex(4)}", f"pki-{secrets.token_hex(4)}"
        for name in (root, made):
            self.write(f"sys/mounts/{name}", type="pki", config={"max_lease_ttl": "87600h"})
        self.write(f"{root}/root/generate/internal", **_named(trust_domain), ttl="8760h")
        self.intermediate(made, root, trust_domain)
        self.role(made, "mesh", trust_domain)
        self.roots = {made: root}
        return made

    def intermediate(self, mount: str, root: str, trust_domain: str) -> None:
        """Another key that signs in an engine, from now on, under the root of another."""
        request = self.write(f"{mount}/intermediate/generate/internal", **_named(trust_domain))["csr"]
        signed = self.write(
            f"{root}/root/sign-intermediate", csr=request, **_named(trust_domain), ttl="4380h", format="pem_bundle"
        )
        chain = signed["certificate"] + "\n" + signed["issuing_ca"]
        imported = self.write(f"{mount}/intermediate/set-signed", certificate=chain)
        [issuer] = [one for one in imported["imported_issuers"] if imported["mapping"][one]]
        self.write(f"{mount}/config/issuers", default=issuer)

    def role(self, mount: str, name: str, trust_domain: str) -> None:
        """As the page has it."""
        self.write(
            f"{mount}/roles/{name}",
            allowed_uri_sans=f"spiffe://{trust_domain}/*",
            use_csr_sans=False,
            use_csr_common_name=False,
            require_cn=False,
            key_type="any",
            max_ttl="168h",
            allow_any_name=True,
            not_before_duration="2m",
        )

    def token_for(self, mount: str, role: str) -> str:
        """One that may have certificates signed by a role, and nothing else."""
        name = f"sign-{mount}"
        policy = f'path "{mount}/sign/{role}" {{ capabilities = ["update"] }}'
        self.write(f"sys/policies/acl/{name}", policy=policy)
        token: str = self.write("auth/token/create", policies=[name], no_default_policy=True)["client_token"]
        return token


def _named(trust_domain: str) -> dict[str, Any]:
    return {
        "common_name": trust_domain,
        "uri_sans": f"spiffe://{trust_domain}",
        "key_type": "ec",
        "exclude_cn_from_sans": True,
    }


if __name__ == "__main__":
    build()
