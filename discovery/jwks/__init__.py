"""Keys of token issuers, fetched from addresses that users write: `addresses` says which may be connected to, `fetch`
gets one set of keys, `refresh` says when to look again.

An address that a user writes is a request that this program makes in its own network, so nothing here trusts one.
"""
