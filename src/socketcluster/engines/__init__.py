"""WebSocket engines: they move frames and know nothing of the SocketCluster protocol."""
