"""Running jobs: the pipeline of one delivery, leases, slots, workers and worker processes."""
