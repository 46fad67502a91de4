"""Kubernetes in the program: the clusters that settings name, and the proxies of their Gateways."""
