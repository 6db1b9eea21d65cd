"""Working on jobs: the pipeline of one delivery, slots, leases, worker processes."""
