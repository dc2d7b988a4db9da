"""Records which sources are deployed, so that unchanged sources are not deployed again."""

import hashlib
import sys
from pathlib import Path

from .environment import session, variables
from .settings import Settings

SOURCES = ("template.yaml", "samconfig.toml", "functions", "layers", "statemachines")
PARAMETER = "/skald/deployed"


def main() -> int:
    """`current`: return exit code 0 if the deployed sources are the local ones, else 1.

    `record`: store the digest of the local sources as deployed.
    """
    settings = Settings.from_environment()
    endpoint = variables(settings)["AWS_ENDPOINT_URL"]
    # The record is in LocalStack, like the deployment: a restart deletes both.
    client = session(settings).client("ssm", endpoint_url=endpoint)
    here = fingerprint(settings.root)
    if sys.argv[1:] == ["record"]:
        client.put_parameter(Name=PARAMETER, Value=here, Type="String", Overwrite=True)
        return 0
    try:
        return int(client.get_parameter(Name=PARAMETER)["Parameter"]["Value"] != here)
    except client.exceptions.ParameterNotFound:
        return 1


def fingerprint(root: Path) -> str:
    """Return a digest of all sources of a deployment."""
    digest = hashlib.sha256()
    for path in sorted(_files(root)):
        digest.update(str(path.relative_to(root)).encode() + b"\0")
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _files(root: Path) -> list[Path]:
    return [
        path
        for source in SOURCES
        for path in [root / source, *(root / source).rglob("*")]
        if path.is_file() and "__pycache__" not in path.parts
    ]


if __name__ == "__main__":
    sys.exit(main())
