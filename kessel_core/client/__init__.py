"""What applications hold: the manager, and the start of a job's way."""
