"""`python -m clients`: the same as `gcavt`."""

from __future__ import annotations

import sys

from clients.cli import main

sys.exit(main())
