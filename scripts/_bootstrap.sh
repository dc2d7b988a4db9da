# Sourced by every script: finds the checkout, finds or installs uv, and builds the locked
# environments under .local/ when their lock files changed. Works with the bash 3.2 of macOS.
# shellcheck shell=bash

SKALD_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
export SKALD_ROOT
SKALD_LOCAL="$SKALD_ROOT/.local" # environments live here, for any SKALD_STATE_DIR
PATH="$SKALD_LOCAL/venv/bin:$PATH"
export PATH
unset VIRTUAL_ENV PYTHONHOME # an activated environment must not redirect ours
# Compiled modules are kept beside their sources. Otherwise every command would compile its
# libraries for seconds, and the layers would be built without compiled modules.
unset PYTHONDONTWRITEBYTECODE PYTHONPYCACHEPREFIX

UV_PINNED=0.13.9
UV_MINIMUM=0.8.0
PYTHON_VERSION=3.13

say() { printf '%s\n' "$*" >&2; }
die() {
    say "error: $*"
    exit 1
}

# Prints "0.13.9" for a uv that runs. A pyenv shim, for example, is found on PATH and then fails.
_uv_version() { "$1" --version 2>/dev/null | awk '$1 == "uv" { print $2 }'; }

_at_least() { # _at_least VERSION MINIMUM
    awk -v have="$1" -v need="$2" 'BEGIN {
        split(have, h, "."); split(need, n, ".")
        for (i = 1; i <= 3; i++) if (h[i] + 0 != n[i] + 0) exit !(h[i] + 0 > n[i] + 0)
    }'
}

_usable_uv() {
    local version
    version=$(_uv_version "$1") && [ -n "$version" ] && _at_least "$version" "$UV_MINIMUM"
}

_install_uv() {
    local home="$SKALD_LOCAL/uv" python
    for python in python3 /usr/bin/python3; do
        "$python" -c 'import sys; sys.exit(sys.version_info < (3, 8))' 2>/dev/null || continue
        say "installing uv $UV_PINNED under .local/uv"
        rm -rf "$home"
        if "$python" -m venv "$home" 2>/dev/null &&
            "$home/bin/python" -m pip install --quiet "uv==$UV_PINNED" >&2; then
            return
        fi
        # Debian without python3-venv; --target is allowed even where PEP 668 forbids installs.
        rm -rf "$home"
        "$python" -m pip install --quiet --target "$home" "uv==$UV_PINNED" >&2 && return
    done
    die "uv is missing and could not be installed: install uv $UV_MINIMUM or newer, then run this again"
}

# Sets UV to a working uv, installing a private one as the last resort.
find_uv() {
    local candidate
    [ -z "${UV:-}" ] || return 0
    for candidate in uv "$HOME/.local/bin/uv" "$SKALD_LOCAL/uv/bin/uv"; do
        if _usable_uv "$candidate"; then
            UV=$candidate
            return
        fi
    done
    _install_uv
    UV="$SKALD_LOCAL/uv/bin/uv"
    _usable_uv "$UV" || die "the uv installed under .local/uv does not run; remove that folder and try again"
}

# Two scripts started at once must not build the same thing together. The lock names its holder, so
# the lock of a killed script is recognised and taken over.
_lock() { # _lock NAME
    local lock="$SKALD_LOCAL/$1.lock" holder
    mkdir -p "$SKALD_LOCAL"
    until (set -o noclobber && echo $$ >"$lock") 2>/dev/null; do
        holder=$(cat "$lock" 2>/dev/null || true)
        if [ -n "$holder" ] && ! kill -0 "$holder" 2>/dev/null; then
            rm -f "$lock"
        else
            sleep 0.2
        fi
    done
}
_unlock() { rm -f "$SKALD_LOCAL/$1.lock"; }

# An environment carries a copy of the lock file it was built from, written last: equal means done.
_fresh() { cmp -s "$1" "$2/.built-from"; }

_build_venv() { # _build_venv DIRECTORY LOCKFILE
    "$UV" venv --quiet --no-project --allow-existing --python "$PYTHON_VERSION" "$1" &&
        "$UV" pip sync --quiet --require-hashes --python "$1/bin/python" "$2"
}

_build_folder() { # _build_folder DIRECTORY LOCKFILE
    "$UV" pip sync --quiet --require-hashes --python "$SKALD_LOCAL/venv/bin/python" --target "$1" "$2"
}

_ensure() { # _ensure BUILDER NAME LOCKFILE
    local directory="$SKALD_LOCAL/$2" lockfile="$SKALD_ROOT/$3" built=0
    if _fresh "$lockfile" "$directory"; then return; fi
    find_uv
    _lock bootstrap
    if ! _fresh "$lockfile" "$directory"; then
        say "building .local/$2 from $3"
        rm -f "$directory/.built-from"
        "$1" "$directory" "$lockfile" >&2 && cp "$lockfile" "$directory/.built-from" || built=$?
    fi
    _unlock bootstrap
    [ "$built" -eq 0 ] || die "could not build .local/$2 from $3 (see the message above)"
}

# Our own code, its tests and the servers' binaries: .local/venv.
ensure_env() { _ensure _build_venv venv requirements-dev.txt; }

# Command-line tools with dependencies of their own (sam): .local/tools.
ensure_tools_env() { _ensure _build_venv tools scripts/tools/requirements.txt; }

# LocalStack in its own environment, and what AWS Lambda provides under /var/runtime.
ensure_platform_env() {
    ensure_env
    _ensure _build_venv localstack-venv scripts/platform/localstack-requirements.txt
    _ensure _build_folder lambda-runtime scripts/platform/lambda-runtime-requirements.txt
}

# Runs a command with the platform's variables and our packages on the path.
with_platform() {
    local variables
    variables=$(PYTHONPATH="$SKALD_ROOT/scripts/platform" python -m stack env)
    (
        eval "$variables"
        export PYTHONPATH="$SKALD_ROOT/scripts:$SKALD_ROOT/scripts/platform:$SKALD_ROOT/functions:$SKALD_ROOT/layers/core"
        exec "$@"
    )
}
