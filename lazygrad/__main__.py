"""`python -m lazygrad` is the command `lazygrad`."""

from lazygrad.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
