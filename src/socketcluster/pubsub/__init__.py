"""Publish and subscribe: the exchange, its channels and the fan-out to subscribers."""
