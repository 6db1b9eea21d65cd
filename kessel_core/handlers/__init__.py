"""Handlers: declaring them, the context they see, and the registry that finds them by type."""
