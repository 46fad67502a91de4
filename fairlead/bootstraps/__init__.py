"""What an Envoy is told before it reaches us. Pure: no part of it asks a running server."""
