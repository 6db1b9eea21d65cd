"""Encodes requests and results as bytes and decodes them: the one place that knows the keys."""
