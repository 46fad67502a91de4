"""Identities (Citadel): SPIFFE names, the CA, keys, rotation, bundles and the Secret Discovery Service.

Certificates of listeners come over ADS from `Secret` objects today (`xds/translate/secret.py`); what makes and
rotates identities will live here.
"""
