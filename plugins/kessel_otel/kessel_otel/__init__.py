"""Traces of jobs with OpenTelemetry: spans of requests and of attempts, linked across processes."""
