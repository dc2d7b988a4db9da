"""First code in a function's process: sets the import path Lambda has, then starts its runtime.

Runs in the bare interpreter (`-I -S`): the path holds the standard library only, so a dependency
that is in neither the code, a layer nor Lambda's runtime is missing here as it is on AWS.
"""

import os
import site
import sys


def main() -> None:
    """Start the Runtime Interface Client for the handler in `_HANDLER`."""
    code, opt, runtime, fallback = sys.argv[1:]
    packages = f"{opt}/python/lib/python{sys.version_info.major}.{sys.version_info.minor}"
    sys.path[:0] = [code, f"{packages}/site-packages", f"{opt}/python", runtime]
    # Last, so that it is found only where the native module is not installed (macOS).
    sys.path.append(fallback)
    site.setquit()  # exit() and quit(), which -S leaves out
    from awslambdaric.__main__ import main as run

    run([sys.argv[0], os.environ["_HANDLER"]])


if __name__ == "__main__":
    main()
