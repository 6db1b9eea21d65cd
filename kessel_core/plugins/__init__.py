"""Finds plugins, loads each in isolation, and collects what they offer to an application."""
