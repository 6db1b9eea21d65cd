"""The in-memory queue of kessel: every capability, within one process; `plugin.py` is what kessel finds."""
