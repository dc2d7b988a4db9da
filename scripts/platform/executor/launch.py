"""The first code in a function's process: it sets Lambda's import path and starts the runtime.

It runs in the bare interpreter (`-I -S`), whose path has only the standard library. So a dependency
is missing here, as on AWS, if it is not in the code, in a layer or in Lambda's runtime.
"""

import os
import site
import sys


def main() -> None:
    """Start the Runtime Interface Client for the handler in `_HANDLER`."""
    code, opt, runtime, fallback = sys.argv[1:]
    packages = f"{opt}/python/lib/python{sys.version_info.major}.{sys.version_info.minor}"
    sys.path[:0] = [code, f"{packages}/site-packages", f"{opt}/python", runtime]
    # It is last, so that it is used only if the native module is not installed (macOS).
    sys.path.append(fallback)
    site.setquit()  # defines exit() and quit(), which -S leaves out
    from awslambdaric.__main__ import main as run

    run([sys.argv[0], os.environ["_HANDLER"]])


if __name__ == "__main__":
    main()
