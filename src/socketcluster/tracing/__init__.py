"""Tracing: spans of calls, publishes and deliveries, with OpenTelemetry."""
