"""The model of the mesh: what is known, and what follows from it.

Owns services, endpoints, the config kinds, their validation, attachment of routes and policies, and the tables
that derive one from another. It is pure: no I/O, no clock, no random source, no thread. It imports the standard
library, msgspec and re2, and nothing else of Fairlead.
"""
