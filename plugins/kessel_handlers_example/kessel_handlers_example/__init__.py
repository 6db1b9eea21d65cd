"""Example handlers for kessel: small, but real uses of typed payloads, failures and package data."""
