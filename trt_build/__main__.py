"""python -m trt_build export CHECKPOINT --out DIR"""

from __future__ import annotations

import argparse

from trt_build import export


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m trt_build")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser("export", help="checkpoint -> ONNX bundle")
    export.add_arguments(command)
    command.set_defaults(run=export.run)
    args = parser.parse_args()
    return int(args.run(args))


if __name__ == "__main__":
    raise SystemExit(main())
