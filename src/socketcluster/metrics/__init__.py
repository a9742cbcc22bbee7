"""Metrics: what a server counts, as Prometheus reads it."""
