"""Identities (Citadel): SPIFFE names, the CA, keys, rotation, bundles and the Secret Discovery Service.

`authority.py` is what everybody else asks: certificates for identities, and what to trust. `builtin.py` is the one with
keys of its own. Certificates of listeners come over ADS from `Secret` objects (`xds/translate/secret.py`);
`bootstrap_authority.py` vouches for the xDS server in Kubernetes.
"""
