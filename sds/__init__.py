"""Identities (Citadel): SPIFFE names, the CA, keys, rotation, bundles and the Secret Discovery Service.

Certificates of listeners come over ADS from `Secret` objects today (`xds/translate/secret.py`);
`bootstrap_authority.py` vouches for the xDS server itself. What makes and rotates workloads' identities will live here.
"""
