"""`python -m engine`: the live server."""

from __future__ import annotations

import argparse
import logging
import sys

from engine.server import add_arguments, run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m engine", description="Serve the live avatar.")
    add_arguments(parser)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    return run(parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
