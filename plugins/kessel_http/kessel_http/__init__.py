"""Signed HTTP callbacks for kessel: the outcome of a job is sent to an endpoint by POST (S23, S24)."""
