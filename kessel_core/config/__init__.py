"""What can be configured, where each value comes from, and how it may be shown."""
