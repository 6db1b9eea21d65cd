"""Converts text and JSON to typed values: durations, options, payloads; finds the nearest known name."""
