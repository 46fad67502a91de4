"""Service account tokens as a kubelet puts them into pods, the roots beside them, and a folder as it mounts one."""

from __future__ import annotations

from pathlib import Path

from fairlead.identities.trust_config_maps import CA_KEY, CONFIG_MAP
from tests.support.kubernetes import Cluster


def account(cluster: Cluster, namespace: str, name: str) -> None:
    cluster.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}}, namespace=namespace)


def token_of(cluster: Cluster, namespace: str, name: str, *, audience: str = "fairlead", **spec: object) -> str:
    """What the kubelet would put into a pod of that account."""
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token"
    request = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {"audiences": [audience], "expirationSeconds": 600, **spec},
    }
    made = cluster.request("POST", path, request)["status"]["token"]
    assert isinstance(made, str)
    return made


def bound_token(cluster: Cluster, namespace: str) -> str:
    """A token of the account `edge` as in a pod `edge-1`, which never runs."""
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "edge-1"},
        "spec": {
            "serviceAccountName": "edge",
            "nodeSelector": {"no-such": "node"},
            "containers": [{"name": "envoy", "image": "none"}],
        },
    }
    [made] = cluster.apply(pod, namespace=namespace)
    reference = {"kind": "Pod", "apiVersion": "v1", "name": "edge-1", "uid": made["metadata"]["uid"]}
    return token_of(cluster, namespace, "edge", boundObjectRef=reference)


def bundle(cluster: Cluster, namespace: str) -> str:
    found = cluster.find(f"/api/v1/namespaces/{namespace}/configmaps/{CONFIG_MAP}")
    return str(found["data"][CA_KEY]) if found is not None else ""


class Mounted:
    """A folder whose files are replaced all at once, as the kubelet replaces those of projected volumes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._folder.mkdir()
        self._files: dict[str, str] = {}
        self._generation = 0

    def put(self, **files: str) -> None:
        self._generation += 1
        self._files |= files
        version = self._folder / f"..{self._generation}"
        version.mkdir()
        for name, text in self._files.items():
            (version / name).write_text(text)
            if not (self._folder / name).is_symlink():
                (self._folder / name).symlink_to(f"..data/{name}")
        (self._folder / "..tmp").symlink_to(version.name)
        (self._folder / "..tmp").rename(self._folder / "..data")

    def __getitem__(self, name: str) -> str:
        return str(self._folder / name)
