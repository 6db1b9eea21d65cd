"""The application's side: the job manager, and requesting, moving and running jobs through it."""
