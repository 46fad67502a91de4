"""The program: command line, settings, and the one place where the parts are wired together.

Owns what only a running process has: timers, signals, threads, exit codes. Nothing imports it, and it decides nothing
about Envoy or the model: those decisions are `mesh`'s, `xds.translate`'s and `xds.protocol`'s.
"""
