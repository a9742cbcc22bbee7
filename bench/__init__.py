"""The benchmark: this server, others, and what the kernel allows, side by side on one machine."""
