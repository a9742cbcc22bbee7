"""The parts of a server's socket; none of them knows the socket or the server."""
