"""The server: AGServer, its sockets and its options."""
