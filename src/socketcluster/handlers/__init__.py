"""Handlers: the functions that answer packets, and the types of their data."""
