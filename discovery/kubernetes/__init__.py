"""Kubernetes: services, endpoints, workloads and config objects in; statuses and gateways' proxies out.

`wire.py` names the fields of Kubernetes' objects that are read. `informer.py` lists and watches one kind, `catalog.py`
makes services and endpoints of what was seen, `config.py` config objects, and `source.py` is all of it as one source.
`status.py` says what of a status is written, `provision.py` what runs a Gateway; both are pure, and only the leader
(`lease.py`) acts on them. Everything talks through `api.py`.
"""
