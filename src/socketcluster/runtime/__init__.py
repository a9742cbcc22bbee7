"""Helpers for the event loop and the log: loop binding, cancellation, futures, reports."""
