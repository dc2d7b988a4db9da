"""`python -m fleet --out DIR`: writes the sample fleet and prints what is in it."""

import argparse
import sys
from pathlib import Path

from fleet.generate import generate


def main(arguments: list[str] | None = None) -> int:
    """Generate the fleet and print one line per fault."""
    options = _parser().parse_args(arguments)
    truth = generate(options.out, vehicles=options.vehicles, seed=options.seed, bad=options.bad)
    megabytes = truth.size_bytes / 1e6
    lines = [f"{len(truth.files)} files, {megabytes:.1f} MB in {options.out}"]
    lines += [f"  {fault.fault}: {', '.join(fault.vehicles)}" for fault in truth.faults]
    lines.append(f"  healthy: {', '.join(truth.healthy_vehicles)}")
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="fleet", description="Write the logs of a sample fleet.")
    parser.add_argument("--out", type=Path, required=True, help="directory to write into")
    parser.add_argument("--seed", type=int, default=7, help="picks the faults (default 7)")
    parser.add_argument("--vehicles", type=int, default=6, help="size of the fleet (default 6)")
    parser.add_argument(
        "--bad", action="store_true", help="add files that cannot be parsed, for a partial batch"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
