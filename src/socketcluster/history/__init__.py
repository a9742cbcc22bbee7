"""History: the stored publishes of channels, which a process follows without a gap."""
