"""Codecs: packets to messages and back."""
