"""``python -m planeforge``: the command line."""

from planeforge.cli import main

raise SystemExit(main())
