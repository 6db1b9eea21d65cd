"""The cases, one module a subject; `kessel_conformance.catalogue` loads them."""
