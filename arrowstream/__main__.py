"""``python -m arrowstream``."""

import sys

from arrowstream.cli import main

sys.exit(main())
