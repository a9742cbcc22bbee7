"""The protocol core, without I/O and asyncio: packets, calls, frames, states."""
