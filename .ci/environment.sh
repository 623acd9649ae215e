# Sourced by tests/run, testproject/run and tests/javascript/build: finds a Python, keeps environments.
# shellcheck shell=bash

# Print the interpreter of the first of these versions that is here and can make environments.
find_python() {
    local version candidate
    for version in "$@"; do
        # Each candidate is run: pyenv's shims exist also for versions that are not switched on.
        for candidate in "python$version" "${HOME:-}/.pyenv/versions/$version."*/bin/python python3 python; do
            if "$candidate" -c "import ensurepip, sys; sys.exit('%d.%d' % sys.version_info[:2] != '$version')" \
                >/dev/null 2>&1 </dev/null; then
                "$candidate" -c "import sys; print(sys.executable)"
                return
            fi
        done
    done
    return 1
}

# keep_environment DIRECTORY PYTHON PIP-ARGUMENTS...: make it; install only when something changed.
keep_environment() {
    local directory=$1 python=$2 wanted
    shift 2
    wanted="$PWD $("$python" -V) $* $(cksum pyproject.toml)"
    if [ "$(cat "$directory/.installed" 2>/dev/null)" != "$wanted" ]; then
        "$python" -m venv "$directory" &&
            "$directory/bin/python" -m pip install --quiet --upgrade pip && # --group came with 25.1
            "$directory/bin/python" -m pip install --quiet --disable-pip-version-check "$@" &&
            printf '%s\n' "$wanted" >"$directory/.installed"
    fi
}

# keep_packages DIRECTORY: install from npm what its lock file says; only when that changed.
keep_packages() {
    local wanted
    wanted="$(node -v) $(cksum <"$1/package-lock.json")"
    if [ "$(cat "$1/node_modules/.installed" 2>/dev/null)" != "$wanted" ]; then
        npm ci --prefix "$1" --loglevel error --no-audit --no-fund --prefer-offline >/dev/null &&
            printf '%s\n' "$wanted" >"$1/node_modules/.installed"
    fi
}
