"""Redis and Valkey as a queue and a store for kessel; see `kessel_redis.plugin` for what it offers."""
