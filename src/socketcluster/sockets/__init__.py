"""Parts of the sockets of both sides: calls, requests, batches, writers, streams."""
