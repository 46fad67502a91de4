"""From the model to Envoy's resources: pure functions and derived tables, one Envoy feature per file.

A file is named as Envoy names the feature. Those that build messages take model values and return messages; those with
tables (`*_tables.py`, `tables.py`, `views.py`) say which rows exist and what they read. Nothing here does I/O or reads
a clock, and equal inputs give equal bytes on every replica (DESIGN §2, §5).
"""
