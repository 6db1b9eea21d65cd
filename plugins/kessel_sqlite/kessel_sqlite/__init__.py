"""The durable queue of kessel in one SQLite file; `plugin.py` is what kessel finds."""
