"""The cases for stores, a module for each part of the clause."""
