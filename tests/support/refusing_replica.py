"""A replica of the gateway `default/edge` that refuses every listener, in a process of its own.

    python -m tests.support.refusing_replica XDS_PORT WORDS

`{name}` in the words becomes the name of each listener. In a process of its own because tests start programs meanwhile,
and a process that uses gRPC must not fork.
"""

from __future__ import annotations

import queue
import sys

import grpc

from tests.support.xds_client import ADS, delta_request, node
from xds.schema.type_urls import TYPE_LISTENER
from xds.schema.types import DeltaDiscoveryResponse

NODE = "gateway~default~edge~refusing"


def refuse_all(port: int, words: str) -> None:
    """Subscribe to listeners and refuse them until the stream ends."""
    requests: queue.Queue[bytes] = queue.Queue()
    requests.put(delta_request(TYPE_LISTENER, node=node(NODE)).SerializeToString())
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        for raw in channel.stream_stream(f"{ADS}DeltaAggregatedResources")(iter(requests.get, None)):
            response = DeltaDiscoveryResponse.FromString(raw)
            said = "; ".join(words.format(name=resource.name) for resource in response.resources)
            refusal = delta_request(TYPE_LISTENER, nonce=response.nonce, error=said or None)
            requests.put(refusal.SerializeToString())


if __name__ == "__main__":
    refuse_all(int(sys.argv[1]), sys.argv[2])
