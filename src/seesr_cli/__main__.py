"""`python -m seesr_cli` is `seesr`."""

from .cli import main

if __name__ == "__main__":
    main()
