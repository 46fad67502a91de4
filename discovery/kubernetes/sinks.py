"""Where what an informer sees goes: into the catalog or the config objects of a cluster, be it all or one namespace."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from discovery.kubernetes.catalog import Catalog
from discovery.kubernetes.catalog import Kind as CatalogKind
from discovery.kubernetes.config import Config, object_key
from discovery.kubernetes.wire import EndpointSlice, Key, Malformed, Node, Pod, Service
from mesh.kinds import Kind
from mesh.model import ObjectKey

CatalogItem = Service | EndpointSlice | Pod | Node


class CatalogSink:
    """One kind of the catalog's; see `informer.Sink`.

    `keys`, where several informers share a kind, one per namespace: what each of them has listed.
    """

    def __init__(
        self, catalog: Catalog, kind: CatalogKind, *, namespace: str = "", keys: dict[str, set[Key]] | None = None
    ) -> None:
        self._catalog = catalog
        self._kind = kind
        self._namespace = namespace
        self._keys = keys

    def key(self, item: CatalogItem) -> Key:
        """See `informer.Sink`."""
        return item.metadata.key

    def put(self, item: CatalogItem) -> None:
        """See `informer.Sink`."""
        self._note(item.metadata.key)
        self._catalog.put(item)

    def reject(self, malformed: Malformed) -> None:
        """See `informer.Sink`."""
        self._note(malformed.key)
        self._catalog.reject(self._kind, malformed)

    def remove(self, key: Key) -> None:
        """See `informer.Sink`."""
        if self._keys is not None:
            self._keys.setdefault(self._namespace, set()).discard(key)
        self._catalog.remove(self._kind, key)

    def retain(self, keys: frozenset[Key]) -> None:
        """See `informer.Sink`."""
        if self._keys is None:
            self._catalog.retain(self._kind, keys)
            return
        self._keys[self._namespace] = set(keys)
        self._catalog.retain(self._kind, frozenset().union(*self._keys.values()))

    def _note(self, key: Key) -> None:
        if self._keys is not None:
            self._keys.setdefault(self._namespace, set()).add(key)


class ConfigSink:
    """One kind of config object, everywhere, in a namespace, or (`name`) one object; see `informer.Sink`."""

    def __init__(self, config: Config, kind: Kind, *, namespace: str = "", name: str = "") -> None:
        self._config = config
        self._kind = kind
        self._namespace = namespace
        self._name = name

    def key(self, item: Mapping[str, Any]) -> Key:
        """See `informer.Sink`."""
        return Key(*object_key(self._kind, item)[1:])

    def put(self, item: Mapping[str, Any]) -> None:
        """See `informer.Sink`."""
        self._config.put(self._kind, item)

    def reject(self, malformed: Malformed) -> None:
        """See `informer.Sink`."""
        self._config.reject(self._kind, malformed)

    def remove(self, key: Key) -> None:
        """See `informer.Sink`."""
        self._config.remove(self._kind, key)

    def retain(self, keys: frozenset[Key]) -> None:
        """See `informer.Sink`."""
        self._config.retain(self._kind, keys, of=self._covers)

    def _covers(self, key: ObjectKey) -> bool:
        return (not self._namespace or key.namespace == self._namespace) and (not self._name or key.name == self._name)
