"""`python -m kessel_core.cli`: the command without its script, which is how the supervisor starts workers."""

from kessel_core.cli import main

if __name__ == "__main__":
    main()
