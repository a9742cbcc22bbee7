"""Presence: who is subscribed to a channel, on all servers."""
