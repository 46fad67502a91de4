"""The people's door: REST over the config kinds, what the proxies say, and a small page to look at it all.

Owns HTTP: paths, bodies, problem documents, tokens, watches. It knows the model and nothing else; what it needs of the
store, the sources and the proxies comes through the Protocols of `ports.py`.
"""
