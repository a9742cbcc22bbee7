"""Verifying the tokens of an identity provider, with the keys that it publishes."""
