"""`python -m kessel_core.cli`: the command without its script; the supervisor starts workers so."""

from kessel_core.cli import main

if __name__ == "__main__":
    main()
