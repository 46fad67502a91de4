"""Fairlead measured beside a peer built on go-control-plane, in the same run: `make bench`, `python -m benchmarks`.

Owns the stopwatch, the simulated proxies (`proxies/`, Go), the peer (`peer/`, Go) and one file per row of the table
(`rows/`). Must not import Fairlead's own code except in `rows/derivation.py`: everything else is measured from
outside, by the same instruments for both servers.
"""
