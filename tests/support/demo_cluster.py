"""For `make demo-consul`: prints the kubeconfig of the Kubernetes that a service moves out of, or why there is none.

    python -m tests.support.demo_cluster KUBECONFIG NODE

KUBECONFIG if it is given. Else the local node (`tests/kube-node`) if it runs and has the image of the sample backend;
with NODE it is started and given the image. Else nothing, and the reason on stderr: a file it is then.
"""

from __future__ import annotations

import subprocess
import sys

from tests.support.kubernetes import KUBE_NODE, ROOT, local_kubeconfig, why_no_node

IMAGE = "fairlead:dev"
_HINT = "`make demo-consul NODE=1` moves it out of one on this machine (root), KUBECONFIG=FILE out of yours"


def main(kubeconfig: str, node: str) -> int:
    """Print it."""
    if kubeconfig:
        print(kubeconfig)
        return 0
    why = why_no_node()
    if node and "is not built" in why:
        why = ""  # `up` builds it
    if not why and not node and not _asked("status"):
        why = "no KUBECONFIG, and the local node does not run"
    if not why and node:
        subprocess.run([str(KUBE_NODE), "up"], check=True, stdout=sys.stderr)
        subprocess.run([sys.executable, str(ROOT / "kind-cluster" / "images")], check=True, stdout=sys.stderr)
        print("The node runs on after the demo; `tests/kube-node/kube-node down` ends it.", file=sys.stderr)
    elif not why and not _asked("image-id", IMAGE):
        why = f"the local node does not have the image {IMAGE}"
    if why:
        print(f"No Kubernetes to move a service out of: {why}. {_HINT}.", file=sys.stderr)
        return 2 if node else 0
    print(local_kubeconfig())
    return 0


def _asked(*arguments: str) -> bool:
    """Whether the node says yes, with words."""
    done = subprocess.run([str(KUBE_NODE), *arguments], capture_output=True, text=True, check=False)
    return done.returncode == 0 and bool(done.stdout.strip()) and "stopped" not in done.stdout


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
