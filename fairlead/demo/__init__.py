"""The demo: the main job shown on real Envoy with real requests, each claim checked by the same code that shows it."""
