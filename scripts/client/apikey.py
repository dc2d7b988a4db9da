"""The command line of scripts/apikey."""

import argparse
from uuid import UUID

from client.platform import new_api_key


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="scripts/apikey",
        description="Create an API key and print it; only its hash is stored.",
    )
    parser.add_argument("name", help="what the key is for")
    parser.add_argument("--tenant", type=UUID, help="an existing tenant (default: a new one)")
    arguments = parser.parse_args()
    print(new_api_key(arguments.name, arguments.tenant))


if __name__ == "__main__":
    main()
