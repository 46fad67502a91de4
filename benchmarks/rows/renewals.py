"""Many agents got their certificates in the same moment: how are their renewals spread, when are all of them done?

Each agent draws its time as `sds/renewal.py` says (half its certificate's life, give or take a tenth) and renews with
the built-in authority, whose clock runs as the agents' does. Then the worst case: the authority was away, all are due,
and all come at once. In this process, which is server and agents in one. The bar is 60 s for the last of 2,000.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import random
import time
from collections import Counter

from benchmarks.bench import Bench
from benchmarks.report import Bar, Reading, Result, merge
from benchmarks.rows.issuing import IDENTITY, sign
from sds.builtin import BuiltinAuthority, in_memory
from sds.keys import new_key, request_for
from sds.lifetimes import utc_now
from sds.renewal import renew_at

NAME = "renewals"
_KEYS = 50


def run(bench: Bench) -> list[Result]:
    """Renew once spread, and once all at a time."""
    if not bench.measures_ours:
        return []
    return merge(NAME, asyncio.run(_measure(bench.size.agents, bench.size.agent_life)), [])


async def _measure(agents: int, life: float) -> list[Reading]:
    authority = in_memory(IDENTITY.trust_domain)
    requests = [request_for(new_key(), IDENTITY) for _ in range(_KEYS)]
    began = utc_now()
    ends = began + dt.timedelta(seconds=life)
    draw = random.Random(7)
    dues = [(renew_at(began, ends, draw=draw.random()) - began).total_seconds() for _ in range(agents)]
    start = time.perf_counter()
    done: list[float] = []
    late: list[float] = []

    async def renew(number: int, due: float) -> None:
        await asyncio.sleep(max(0.0, start + due - time.perf_counter()))
        await sign(authority, requests[number % _KEYS])
        finished = time.perf_counter() - start
        done.append(finished)
        late.append(finished - due)

    async with asyncio.TaskGroup() as group:
        for number, due in enumerate(dues):
            group.create_task(renew(number, due))
    busiest = max(Counter(int(one) for one in done).values())
    even = agents / max(1.0, 0.2 * life)
    spread = [
        Reading(f"{agents} agents: from the first renewal to the last", max(done) - min(dues), "s", Bar(at_most=60)),
        Reading("renewals in the busiest second, against an even spread", busiest / even, "x"),
        Reading("the longest wait", max(late) * 1000, "ms"),
    ]
    at_once = await _at_once(authority, requests, agents)
    return [*spread, Reading("all due at once: until the last is done", at_once, "s", Bar(at_most=60))]


async def _at_once(authority: BuiltinAuthority, requests: list[bytes], agents: int) -> float:
    start = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for number in range(agents):
            group.create_task(sign(authority, requests[number % _KEYS]))
    return time.perf_counter() - start
