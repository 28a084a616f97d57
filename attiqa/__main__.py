"""``python -m attiqa``: the same as the ``attiqa`` command."""

import sys

from attiqa.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
