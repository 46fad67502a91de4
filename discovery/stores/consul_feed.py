"""What changed between two answers of Consul, which hold everything or what may have changed. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from discovery.stores import consul_values as values
from discovery.stores.consul_values import Layout, Pair
from discovery.stores.store import Event
from mesh.model import ObjectKey


class Feed:
    """One watcher's view: what it was told, by key. `after` is the revision up to which it knows all already."""

    def __init__(self, layout: Layout, *, after: int) -> None:
        self._layout = layout
        self._after = after
        self._told: dict[ObjectKey, int] | None = None
        self._gone: set[ObjectKey] = set()

    def events(self, pairs: Iterable[Pair], *, whole: bool = True) -> tuple[Event, ...]:
        """The latest state of each key that is not as it was told, oldest change first.

        `whole`: what is not among these is gone; the first must be so.
        """
        told = self._told
        found = {} if whole or told is None else dict(told)
        events: list[Event] = []
        newest = self._after
        for pair in pairs:
            newest = max(newest, pair.modify_index)
            key = self._layout.key_of(pair.key)
            if key is None:
                continue
            found[key] = pair.modify_index
            before = self._after if told is None else told.get(key, 0)
            if pair.modify_index > before or (told is not None and pair.modify_index != before):
                events.append(self._event(key, pair, restored=pair.modify_index < before))
        # Without a word of their deletion keys vanish when somebody removes them by hand, or restores an older state.
        vanished = [] if told is None else told.keys() - found.keys() - self._gone
        events += [Event(key, newest, None, restored=True) for key in sorted(vanished)]
        self._told = found
        self._gone &= found.keys()
        return tuple(sorted(events, key=lambda event: event.revision))

    def _event(self, key: ObjectKey, pair: Pair, *, restored: bool) -> Event:
        revision = pair.modify_index
        self._gone.discard(key)
        try:
            made = values.read(key, values.kept(pair), revision)
        except values.UnreadableError as error:
            return Event(key, revision, None, str(error), restored)
        if made is None:
            self._gone.add(key)
        return Event(key, revision, made, restored=restored)
