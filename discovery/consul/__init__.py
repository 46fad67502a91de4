"""Consul as a source: services and their healthy instances become rows of the model.

`wire` is what is read of its answers, `catalog` what they mean, `watch_state` when to ask again; these three are pure.
`http` talks to an agent, `source` puts them together.
"""
