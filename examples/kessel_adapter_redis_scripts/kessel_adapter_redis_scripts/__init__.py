"""An adapter for kessel that keeps jobs in Redis, by a script in Lua."""
