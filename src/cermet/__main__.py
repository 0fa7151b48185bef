"""`python -m cermet`: the cermet command."""
import sys

from cermet.cli import main

if __name__ == "__main__":
    sys.exit(main())
