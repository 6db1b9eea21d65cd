"""The suite for stores (S19); names of it are in `kessel_conformance`."""
