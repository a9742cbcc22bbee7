"""What the sockets of both sides are made of: calls, requests, batches, writers, streams."""
