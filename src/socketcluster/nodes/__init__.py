"""Messages between the servers of one application, and what each knows of the others."""
