from __future__ import annotations

import pytest

from discovery.kubernetes.api import ApiError, UnreachableError
from discovery.kubernetes.informer_state import (
    ABSENCES,
    AWAY_PAUSE,
    FORBIDDEN_PAUSE,
    LONGEST_PAUSE,
    WATCH_SECONDS,
    InformerState,
    List,
    Resource,
    Wait,
    Watch,
)
from discovery.kubernetes.wire import UnreadableError

PODS = Resource("Pod", ("/api/v1/pods",), builtin=True)
THINGS = Resource("Thing", ("/apis/g/v1/things",))
GRANTS = Resource("ReferenceGrant", ("/apis/g/v1/referencegrants", "/apis/g/v1beta1/referencegrants"))
GONE = ApiError(410, "Expired", "too old resource version")
NOT_FOUND = ApiError(404, "NotFound", "the server could not find the requested resource")
FORBIDDEN = ApiError(403, "Forbidden", "pods is forbidden")
AWAY = UnreachableError("connection refused")


class Run:
    """A state with a clock of its own that moves when it is told to wait."""

    def __init__(self, resource: Resource = PODS, *, known: bool = False) -> None:
        self.state = InformerState(resource, known=known)
        self.now = 100.0
        self.waited = 0.0

    def step(self) -> List | Watch:
        self.waited = 0.0
        while isinstance(step := self.state.next_step(self.now, 1.0), Wait):
            self.now += step.seconds
            self.waited = round(self.waited + step.seconds, 6)
        return step

    def fail(self, error: ApiError | UnreachableError | UnreadableError) -> bool:
        return self.state.failed(error, self.now, 1.0)

    def watching(self, version: str = "7") -> Run:
        self.step()
        self.state.page_came(version, "")
        assert isinstance(self.step(), Watch)
        self.state.watch_opened()
        return self


def test_a_list_is_read_page_by_page_and_the_watch_begins_where_it_was_made() -> None:
    run = Run()
    first = run.step()
    assert first == List("/api/v1/pods", {"limit": "250"})
    assert not run.state.page_came("7", "more")
    assert not run.state.synced
    assert run.step() == List("/api/v1/pods", {"limit": "250", "continue": "more"})
    assert run.state.page_came("7", "")
    assert run.state.synced
    watch = run.step()
    assert isinstance(watch, Watch)
    assert watch.query["resourceVersion"] == "7"
    assert watch.query["allowWatchBookmarks"] == "true"
    assert WATCH_SECONDS[0] <= int(watch.query["timeoutSeconds"]) <= WATCH_SECONDS[1]


def test_a_field_selector_goes_with_lists_and_watches() -> None:
    run = Run(Resource("Secret a/b", ("/api/v1/namespaces/a/secrets",), "metadata.name=b"))
    assert run.step().query["fieldSelector"] == "metadata.name=b"
    run.state.page_came("7", "")
    assert run.step().query["fieldSelector"] == "metadata.name=b"


def test_a_watch_that_ends_goes_on_after_the_last_event_or_bookmark() -> None:
    run = Run().watching("7")
    run.state.event_came("9")
    run.state.event_came("")
    run.state.watch_ended(run.now, 1.0)
    step = run.step()
    assert isinstance(step, Watch)
    assert step.query["resourceVersion"] == "9"
    assert run.waited == 0


def test_a_watch_that_ends_at_once_and_without_a_word_again_and_again_is_slowed_down() -> None:
    run = Run().watching()
    pauses = []
    for _ in range(12):
        run.state.watch_ended(run.now, 1.0)
        assert isinstance(run.step(), Watch)
        pauses.append(run.waited)
    assert pauses == sorted(pauses)
    assert pauses[-1] == LONGEST_PAUSE


def test_a_watch_whose_version_is_forgotten_lists_anew_at_once() -> None:
    run = Run().watching()
    assert not run.fail(GONE)
    assert run.step() == List("/api/v1/pods", {"limit": "250"})
    assert run.waited == 0
    assert run.state.synced


def test_a_page_token_that_has_expired_starts_the_list_anew_without_pages() -> None:
    run = Run()
    run.step()
    run.state.page_came("7", "more")
    run.step()
    run.fail(GONE)
    assert run.step() == List("/api/v1/pods", {})
    assert run.state.page_came("8", "")
    run.step()
    run.fail(GONE)
    assert run.step() == List("/api/v1/pods", {"limit": "250"}), "only that one list is without pages"


def test_a_server_that_forgets_all_the_time_is_not_asked_all_the_time() -> None:
    run = Run()
    for _ in range(8):
        run.step()
        run.fail(GONE)
    run.step()
    assert run.waited >= 5


def test_a_list_that_breaks_off_starts_from_its_first_page() -> None:
    run = Run()
    run.step()
    run.state.page_came("7", "more")
    run.step()
    run.fail(AWAY)
    assert run.step() == List("/api/v1/pods", {"limit": "250"})


def test_a_server_that_is_away_is_asked_again_soon_and_then_more_and_more_seldom() -> None:
    run = Run().watching()
    pauses = []
    for _ in range(10):
        run.fail(AWAY)
        step = run.step()
        assert isinstance(step, Watch)
        assert step.query["resourceVersion"] == "7", "what was seen stands"
        pauses.append(run.waited)
    assert pauses[0] < 0.5
    assert pauses == sorted(pauses)
    assert pauses[-1] == AWAY_PAUSE
    assert run.state.trouble is not None
    assert run.state.trouble.code == "Unreachable"
    run.state.watch_opened()
    assert run.state.trouble is None


def test_pauses_differ_by_chance_so_that_replicas_do_not_ask_together() -> None:
    lucky, unlucky = InformerState(PODS), InformerState(PODS)
    lucky.failed(AWAY, 0.0, 0.0)
    unlucky.failed(AWAY, 0.0, 1.0)
    assert lucky.next_step(0.0, 0.0) != unlucky.next_step(0.0, 0.0)


def test_a_server_that_says_when_to_come_back_is_taken_at_its_word() -> None:
    run = Run()
    run.step()
    run.fail(ApiError(429, "TooManyRequests", "", retry_after=20.0))
    run.step()
    assert run.waited == 20


def test_a_permission_that_is_lost_keeps_what_was_seen_and_says_so() -> None:
    run = Run().watching()
    for _ in range(12):
        assert not run.fail(FORBIDDEN)
        assert isinstance(run.step(), Watch)
    assert run.waited == FORBIDDEN_PAUSE
    assert run.state.trouble is not None
    assert run.state.trouble.code == "Forbidden"
    assert run.state.synced
    run.state.watch_opened()
    assert run.state.trouble is None


def test_a_server_without_a_kind_that_every_kubernetes_has_is_believed_nothing() -> None:
    run = Run().watching()
    for _ in range(ABSENCES + 1):
        assert not run.fail(NOT_FOUND)
        run.step()
    assert run.state.trouble is not None
    assert not run.state.missing
    fresh = Run()
    fresh.step()
    fresh.fail(NOT_FOUND)
    assert not fresh.state.synced


def test_a_kind_that_a_new_server_does_not_have_is_known_to_be_missing_at_once() -> None:
    run = Run(THINGS)
    run.step()
    run.fail(NOT_FOUND)
    assert run.state.synced
    assert run.state.missing
    assert run.state.trouble is None
    assert isinstance(run.step(), List)
    assert run.waited >= 5
    run.state.page_came("7", "")
    assert not run.state.missing


def test_a_kind_that_was_there_is_gone_only_when_the_server_says_so_several_times() -> None:
    run = Run(THINGS).watching()
    said = []
    for _ in range(ABSENCES):
        said.append(run.fail(NOT_FOUND))
        run.step()
    assert said == [False] * (ABSENCES - 1) + [True]
    assert run.state.missing
    assert not run.fail(NOT_FOUND), "its objects go once"


def test_a_server_that_starts_and_does_not_know_its_kinds_yet_takes_nothing_away() -> None:
    run = Run(THINGS, known=True)
    run.step()
    assert not run.fail(NOT_FOUND)
    assert not run.state.synced
    run.step()
    run.state.page_came("7", "")
    for _ in range(ABSENCES - 1):
        run.step()
        assert not run.fail(NOT_FOUND)


def test_another_version_of_a_kind_is_tried_before_it_is_missing() -> None:
    run = Run(GRANTS)
    assert run.step().path == GRANTS.paths[0]
    run.fail(NOT_FOUND)
    assert not run.state.synced
    assert run.step().path == GRANTS.paths[1]
    assert run.waited == 0
    run.state.page_came("7", "")
    watch = run.step()
    assert watch.path == GRANTS.paths[1]
    run.state.watch_opened()
    run.fail(NOT_FOUND)
    assert run.step() == List(GRANTS.paths[0], {"limit": "250"}), "the version was taken out of service"


@pytest.mark.parametrize("error", [UnreadableError("not JSON"), ApiError(500, "InternalError", "etcd is away")])
def test_an_answer_that_is_no_answer_is_a_trouble_and_loses_nothing(error: ApiError | UnreadableError) -> None:
    run = Run().watching()
    assert not run.fail(error)
    assert run.state.synced
    assert run.state.trouble is not None
    assert run.state.trouble.code == "Refused"
    run.step()
    assert run.waited > 0
