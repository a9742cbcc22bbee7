"""`serve --workers N`: a supervisor, and the worker processes that serve in its place."""
