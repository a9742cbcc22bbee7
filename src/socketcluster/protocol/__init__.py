"""The protocol core: packets, calls, frames. It does no I/O and does not import asyncio."""
