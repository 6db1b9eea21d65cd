"""Handlers: how one is declared, what it sees, and the registry that finds it by type."""
