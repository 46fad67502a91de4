"""Stores of config objects: the interface they share, and SQLite, the default.

Owns durability, revisions and history of what users write over REST, and small runtime documents. It does not judge
objects: what arrives here was validated.
"""
