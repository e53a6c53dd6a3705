"""`python -m engine`: the live server."""

from __future__ import annotations

import argparse
import sys

from engine.server import add_arguments, run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m engine", description="Serve the live avatar.")
    add_arguments(parser)
    return run(parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
