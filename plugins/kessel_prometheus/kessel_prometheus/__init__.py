"""Metrics of kessel for Prometheus, on the health address of workers and from an exporter of their own."""
