"""Text and JSON into typed values: spans, options, payloads; and the nearest name to a misspelt one."""
