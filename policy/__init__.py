"""Access, quotas and telemetry (Mixer): what proxies report and Prometheus knows of traffic, as far as Rollouts ask.

Rate limits and external authorization are not built yet.
"""
