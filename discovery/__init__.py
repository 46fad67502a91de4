"""Adapters to platforms: each turns its platform's news into rows of the model's input tables, and nothing else.

What a row means is decided in `mesh` and `xds`; what only a platform knows stays in its adapter.
"""
