"""PostgreSQL as a queue and a store for kessel; see `kessel_postgres.plugin` for what it offers."""
