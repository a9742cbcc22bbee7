"""Packet handlers: functions that carry out a client's packets on a socket."""
