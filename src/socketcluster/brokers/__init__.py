"""Brokers: they move published bytes between processes and know no sockets."""
