"""Handlers: functions that carry out a peer's calls and events, and what they declare."""
