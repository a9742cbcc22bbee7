"""The benchmark: this server, other servers and a bare C server, measured on one machine."""
