"""Codecs: encode packets to messages, and decode messages to packets."""
