"""Identities and certificates in the program (Citadel): loops and doors around `sds`, and the agent."""
