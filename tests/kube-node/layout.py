"""Where the node keeps what, the settings of its parts, and their commands. Nothing is started here."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
HOME = Path(os.environ.get("KUBE_NODE_HOME", Path.home() / ".cache" / "kube-node"))
STATE, BIN = HOME / "state", HOME / "bin"
PKI, LOGS, AUDIT = STATE / "pki", STATE / "logs", STATE / "logs" / "audit.jsonl"
NODE_IP, POD_CIDR, SERVICE_CIDR, DNS_IP = "10.245.0.1", "10.244.0.0/24", "10.96.0.0/16", "10.96.0.10"
KUBERNETES = "v1.34.4"
COREDNS = "github.com/coredns/coredns@v1.13.1"
PACKAGES = {
    "etcd": "etcd-server",
    "containerd": "containerd",
    "runc": "runc",
    "nft": "nftables",
    "ip": "iproute2",
    "conntrack": "conntrack",
    "openssl": "openssl",
    "busybox": "busybox-static",
}
SOCKET = STATE / "containerd.sock"
KUBECONFIG = STATE / "admin.conf"
CTR = ("ctr", "--address", str(SOCKET), "--namespace", "k8s.io")


def run(*command: object, check: bool = True, **kw: Any) -> subprocess.CompletedProcess[str]:
    """Run a program; where it must succeed and does not, end with its words."""
    done = subprocess.run([str(c) for c in command], check=False, capture_output=True, text=True, **kw)
    if check and done.returncode:
        sys.exit(f"kube-node: {' '.join(map(str, command))} failed:\n{done.stdout}{done.stderr}")
    return done


def make_pki() -> None:
    """A certificate authority, and a certificate and kubeconfig for each part."""
    PKI.mkdir(parents=True, exist_ok=True)

    def openssl(*arguments: object) -> None:
        run("openssl", *arguments, cwd=PKI)

    new = ("-newkey", "rsa:2048", "-nodes")
    openssl("req", "-x509", *new, "-keyout", "ca.key", "-out", "ca.crt", "-days", "3650", "-subj", "/CN=kube-node-ca")
    openssl("genrsa", "-out", "sa.key", "2048")
    openssl("rsa", "-in", "sa.key", "-pubout", "-out", "sa.pub")
    subjects = {
        "apiserver": "/CN=apiserver",
        "admin": "/O=system:masters/CN=admin",
        "kubelet": "/O=system:nodes/CN=system:node:node1",
        "controller-manager": "/CN=system:kube-controller-manager",
        "scheduler": "/CN=system:kube-scheduler",
        "proxy": "/CN=system:kube-proxy",
    }
    names = ("DNS:localhost", "DNS:kubernetes", "DNS:kubernetes.default.svc", "DNS:node1")
    addresses = ("IP:127.0.0.1", f"IP:{NODE_IP}", "IP:10.96.0.1")
    alternatives = ",".join((*names, *addresses))
    (PKI / "ext").write_text(f"subjectAltName={alternatives}\nextendedKeyUsage=serverAuth,clientAuth\n")
    for name, subject in subjects.items():
        openssl("req", *new, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", subject)
        signed = ("-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "3650", "-extfile", "ext")
        openssl("x509", "-req", "-in", f"{name}.csr", *signed, "-out", f"{name}.crt")
        if name != "apiserver":
            (STATE / f"{name}.conf").write_text(json.dumps(kubeconfig(name)))


def kubeconfig(user: str) -> dict[str, Any]:
    """The kubeconfig of a user with a certificate."""

    def encoded(file: str) -> str:
        return base64.b64encode((PKI / file).read_bytes()).decode()

    server = {"server": f"https://{NODE_IP}:6443", "certificate-authority-data": encoded("ca.crt")}
    keys = {"client-certificate-data": encoded(f"{user}.crt"), "client-key-data": encoded(f"{user}.key")}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "kube-node",
        "clusters": [{"name": "kube-node", "cluster": server}],
        "users": [{"name": user, "user": keys}],
        "contexts": [{"name": "kube-node", "context": {"cluster": "kube-node", "user": user}}],
    }


def make_settings() -> None:
    """The settings files of all parts."""
    LOGS.mkdir(parents=True, exist_ok=True)
    (STATE / "cni").mkdir(exist_ok=True)
    bridge = {
        "type": "bridge",
        "bridge": "cni0",
        "isGateway": True,
        "ipMasq": False,
        "hairpinMode": True,
        "ipam": {
            "type": "host-local",
            "dataDir": str(STATE / "ipam"),
            "ranges": [[{"subnet": POD_CIDR}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        },
    }
    plugins = [bridge, {"type": "portmap", "capabilities": {"portMappings": True}}]
    (STATE / "cni" / "10-bridge.conflist").write_text(
        json.dumps({"cniVersion": "0.4.0", "name": "pods", "plugins": plugins})
    )
    (STATE / "containerd.toml").write_text(CONTAINERD)
    # What service accounts of tests and controllers ask for, so that their permissions can be held against it.
    quiet = {"level": "None", "userGroups": ["system:serviceaccounts:kube-system"]}
    rules = [quiet, {"level": "Metadata", "userGroups": ["system:serviceaccounts"]}, {"level": "None"}]
    policy = {"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"], "rules": rules}
    (STATE / "audit.yaml").write_text(json.dumps(policy))
    (STATE / "resolv.conf").write_text("nameserver 127.0.0.1\n")
    kubelet = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "cgroupDriver": "cgroupfs",
        "failSwapOn": False,
        "failCgroupV1": False,
        "containerRuntimeEndpoint": f"unix://{SOCKET}",
        "clusterDNS": [DNS_IP],
        "clusterDomain": "cluster.local",
        "resolvConf": str(STATE / "resolv.conf"),
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": f"{PKI}/ca.crt"},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": f"{PKI}/kubelet.crt",
        "tlsPrivateKeyFile": f"{PKI}/kubelet.key",
        "enforceNodeAllocatable": [],
        "evictionHard": {"memory.available": "100Mi"},
        "localStorageCapacityIsolation": False,
        "maxPods": 250,
    }
    (STATE / "kubelet.yaml").write_text(json.dumps(kubelet))
    (STATE / "Corefile").write_text(COREFILE)


CONTAINERD = f"""version = 2
root = "{STATE}/containerd-root"
state = "{STATE}/containerd-state"
[grpc]
  address = "{SOCKET}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "docker.io/local/busybox:1"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{STATE}/cni"
"""

COREFILE = f""".:53 {{
  bind {NODE_IP}
  errors
  kubernetes cluster.local in-addr.arpa {{
    kubeconfig {KUBECONFIG}
    pods insecure
    ttl 5
  }}
}}
"""


def parts() -> dict[str, list[object]]:
    """The command of each part, in the order in which they start."""
    kube, etcd, peers = BIN / "kube", "http://127.0.0.1:12379", "http://127.0.0.1:12380"
    # fmt: off
    return {
        "containerd": ["containerd", "-c", STATE / "containerd.toml"],
        "etcd": ["etcd", "--data-dir", STATE / "etcd", "--listen-client-urls", etcd, "--advertise-client-urls", etcd,
                 "--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers,
                 "--initial-cluster", f"default={peers}"],
        "apiserver": [kube, "apiserver", f"--etcd-servers={etcd}", f"--service-cluster-ip-range={SERVICE_CIDR}",
                      "--service-account-issuer=https://kubernetes.default.svc",
                      f"--service-account-key-file={PKI}/sa.pub", f"--service-account-signing-key-file={PKI}/sa.key",
                      "--authorization-mode=Node,RBAC", f"--client-ca-file={PKI}/ca.crt",
                      f"--tls-cert-file={PKI}/apiserver.crt", f"--tls-private-key-file={PKI}/apiserver.key",
                      f"--kubelet-client-certificate={PKI}/admin.crt", f"--kubelet-client-key={PKI}/admin.key",
                      "--kubelet-preferred-address-types=InternalIP", f"--advertise-address={NODE_IP}",
                      "--allow-privileged=true", f"--audit-policy-file={STATE}/audit.yaml",
                      f"--audit-log-path={AUDIT}", "--audit-log-maxsize=100", "--audit-log-maxbackup=1"],
        "controller-manager": [kube, "controller-manager", f"--kubeconfig={STATE}/controller-manager.conf",
                               "--use-service-account-credentials", "--leader-elect=false",
                               f"--service-account-private-key-file={PKI}/sa.key", f"--root-ca-file={PKI}/ca.crt",
                               f"--cluster-signing-cert-file={PKI}/ca.crt", f"--cluster-signing-key-file={PKI}/ca.key"],
        "scheduler": [kube, "scheduler", f"--kubeconfig={STATE}/scheduler.conf", "--leader-elect=false"],
        "kubelet": [kube, "kubelet", f"--config={STATE}/kubelet.yaml", f"--kubeconfig={STATE}/kubelet.conf",
                    "--hostname-override=node1", f"--node-ip={NODE_IP}", f"--root-dir={STATE}/kubelet",
                    f"--cert-dir={STATE}/kubelet-pki"],
        "proxy": [kube, "proxy", f"--kubeconfig={STATE}/proxy.conf", "--hostname-override=node1",
                  "--proxy-mode=nftables", "--cluster-cidr=10.244.0.0/16"],
        "coredns": [BIN / "coredns", "-conf", STATE / "Corefile"],
    }
    # fmt: on
