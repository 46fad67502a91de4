"""The rules of each kind that types cannot say, one module per kind or per thing that several kinds share.

A check takes what it judges, the path to it and the `Report`. It is pure and, on good input, fast: messages are made
only where something is wrong. `mesh.validation` puts them together.
"""
