"""The subscription machine against a model of a client, through changes, refusals, late answers and reconnects.

The law: when everything has been answered, the client holds exactly what it asked for, in the present versions, save
the versions that it refused; and getting there takes a bounded number of responses.
"""

from __future__ import annotations

from typing import Any

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from tests.support.xds_script import Script, Served, sent
from xds.schema.type_urls import TYPE_ROUTE

NAMES = st.sampled_from("abcde")
VERSIONS = st.sampled_from(["1", "2", "3", "bad"])
CONTENTS = st.dictionaries(NAMES, VERSIONS, max_size=5)
# Never empty: an empty first list would mean everything.
SOME_NAMES = st.lists(NAMES, unique=True, min_size=1, max_size=4)
LISTS = st.lists(st.sampled_from(["a", "b", "c", "d", "e", "*"]), unique=True, max_size=4)


class DeltaClient(RuleBasedStateMachine):
    """A client that keeps what it was sent, as the specification says a client does."""

    def __init__(self) -> None:
        super().__init__()
        self.served = Served()
        self.contents: dict[str, str] = {}
        self.held: dict[str, str] = {}
        self.names: set[str] = set()
        self.wildcard = False
        self.unanswered: list[Any] = []
        self.client = Script(self.served)

    @initialize(contents=CONTENTS, subscribe=LISTS)
    def start(self, contents: dict[str, str], subscribe: list[str]) -> None:
        self.contents = contents
        self.served.set(TYPE_ROUTE, contents)
        self._subscribed(subscribe, first=True)
        self._take(self.client.ask(TYPE_ROUTE, subscribe=subscribe))

    @rule(contents=CONTENTS)
    def change(self, contents: dict[str, str]) -> None:
        self.contents = contents
        self.served.set(TYPE_ROUTE, contents)
        self._take(self.client.news())

    @rule(subscribe=LISTS, unsubscribe=LISTS)
    def ask(self, subscribe: list[str], unsubscribe: list[str]) -> None:
        unsubscribe = [name for name in unsubscribe if name not in subscribe]
        self._unsubscribed(unsubscribe)
        self._subscribed(subscribe)
        self._take(self.client.ask(TYPE_ROUTE, subscribe=subscribe, unsubscribe=unsubscribe))

    @rule()
    def answer(self) -> None:
        if self.unanswered:
            self._answer(self.unanswered.pop(0))

    @rule(seconds=st.integers(1, 40))
    def wait(self, seconds: int) -> None:
        self._take(self.client.wait(seconds))

    @rule(contents=CONTENTS)
    def reconnect(self, contents: dict[str, str]) -> None:
        """The stream breaks, things change meanwhile, and the client comes back with what it holds."""
        self.unanswered = []
        self.contents = contents
        self.served.set(TYPE_ROUTE, contents)
        self.served.transitions.age()
        self.client = Script(self.served)
        subscribe = [*sorted(self.names), *(["*"] if self.wildcard else [])]
        # A client that wants nothing says so; an empty first request would mean everything.
        unsubscribe = [] if subscribe else ["*"]
        self._take(self.client.ask(TYPE_ROUTE, subscribe=subscribe, unsubscribe=unsubscribe, versions=dict(self.held)))

    def teardown(self) -> None:
        self.settle()

    @rule()
    def settle(self) -> None:
        """Answer everything: the law must hold from any state."""
        for _ in range(60):
            if not self.unanswered:
                break
            self._answer(self.unanswered.pop(0))
        assert not self.unanswered, "responses do not end"
        wanted = {name: version for name, version in self.contents.items() if self.wildcard or name in self.names}
        for name, version in wanted.items():
            if version != "bad":
                assert self.held.get(name) == version, (name, version, self.held)
            else:
                assert self.held.get(name) != "bad"
        assert self.held.keys() <= wanted.keys(), (self.held, wanted)

    def _take(self, responses: list[Any]) -> None:
        self.unanswered += responses

    def _answer(self, response: Any) -> None:
        resources = sent(response)
        # Resources that the client no longer wants may still be on their way; it drops them.
        if "bad" in resources.values():
            # Of routes a refused response counts for nothing but what it removes.
            self._remove(response)
            self._take(self.client.nack(response, "there is something bad in this"))
            return
        for name, version in resources.items():
            if self.wildcard or name in self.names:
                self.held[name] = version
        self._remove(response)
        self._take(self.client.ack(response))

    def _remove(self, response: Any) -> None:
        for name in response.removed_resources:
            self.held.pop(name, None)

    def _subscribed(self, names: list[str], *, first: bool = False) -> None:
        self.names.update(name for name in names if name != "*")
        if "*" in names or (first and not names):
            self.wildcard = True

    def _unsubscribed(self, names: list[str]) -> None:
        self.names.difference_update(names)
        if "*" in names:
            self.wildcard = False
        self.held = {name: version for name, version in self.held.items() if self.wildcard or name in self.names}


class SotwClient(RuleBasedStateMachine):
    """A client of a type that is sent in part: every request names all that it wants and the last response it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.served = Served()
        self.contents: dict[str, str] = {}
        self.held: dict[str, str] = {}
        self.names: list[str] = []
        self.nonce = self.version = ""
        self.unanswered: list[Any] = []
        self.client = Script(self.served, "sotw")

    @initialize(contents=CONTENTS, names=SOME_NAMES)
    def start(self, contents: dict[str, str], names: list[str]) -> None:
        self.contents, self.names = contents, names
        self.served.set(TYPE_ROUTE, contents)
        self.unanswered += self.client.ask(TYPE_ROUTE, names=names)

    @rule(contents=CONTENTS)
    def change(self, contents: dict[str, str]) -> None:
        self.contents = contents
        self.served.set(TYPE_ROUTE, contents)
        self.unanswered += self.client.news()

    @rule(names=SOME_NAMES)
    def ask(self, names: list[str]) -> None:
        if self.held.keys() - names:
            # See `Typed.settle_claims`: what a client drops and takes up again it must not lose its stream over.
            self.version = ""
        self.names = names
        self.held = {name: version for name, version in self.held.items() if name in names}
        self.unanswered += self.client.ask(TYPE_ROUTE, names=names, nonce=self.nonce, version=self.version)

    @rule()
    def answer(self) -> None:
        if self.unanswered:
            self._answer(self.unanswered.pop(0))

    @rule(contents=CONTENTS)
    def reconnect(self, contents: dict[str, str]) -> None:
        """The stream breaks, things change meanwhile, and the client comes back with the version it last took."""
        self.unanswered, self.nonce = [], ""
        self.contents = contents
        self.served.set(TYPE_ROUTE, contents)
        self.client = Script(self.served, "sotw")
        self.unanswered += self.client.ask(TYPE_ROUTE, names=self.names, version=self.version)

    def teardown(self) -> None:
        self.settle()

    @rule()
    def settle(self) -> None:
        """Answer everything: the law must hold from any state."""
        for _ in range(60):
            if not self.unanswered:
                break
            self._answer(self.unanswered.pop(0))
        assert not self.unanswered, "responses do not end"
        for name in self.names:
            version = self.contents.get(name)
            if version is not None and version != "bad":
                assert self.held.get(name) == version, (name, version, self.held)
            assert self.held.get(name) != "bad"

    def _answer(self, response: Any) -> None:
        resources = sent(response)
        self.nonce = response.nonce
        if "bad" in resources.values():
            self.unanswered += self.client.nack(response, "no", names=self.names, version=self.version)
            return
        self.held.update({name: version for name, version in resources.items() if name in self.names})
        self.version = response.version_info
        self.unanswered += self.client.ack(response, names=self.names)


SETTINGS = settings(max_examples=1500, stateful_step_count=30, deadline=None, phases=[Phase.generate, Phase.shrink])
DeltaClient.TestCase.settings = SETTINGS
SotwClient.TestCase.settings = SETTINGS
TestDeltaClient = DeltaClient.TestCase
TestSotwClient = SotwClient.TestCase
