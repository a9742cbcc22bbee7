"""AGClientSocket, the client of a SocketCluster server, and its parts."""
