"""The event loop and the log: which loop an object is used from, tasks, and reports."""
