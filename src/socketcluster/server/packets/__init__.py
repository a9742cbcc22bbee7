"""What each packet of a client does: functions over a server's socket."""
