"""Access, quotas and telemetry (Mixer): rate limits, external authorization, access-log and metrics sinks.

Nothing of it is built yet; the package holds the place that the import rules guard.
"""
