"""A request and a result as bytes, and back: the one place that knows the keys."""
