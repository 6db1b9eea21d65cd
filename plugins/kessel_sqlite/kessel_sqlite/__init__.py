"""The durable queue of kessel in one SQLite file; kessel finds it through `plugin.py`."""
