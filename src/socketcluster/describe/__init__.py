"""Descriptions of a server's handlers: AsyncAPI, OpenRPC and TypeScript."""
