"""`kessel demo`: its command, its jobs, the plugin that watches them, and its report."""
