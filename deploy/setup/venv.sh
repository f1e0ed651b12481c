#!/bin/sh
# Makes a virtual environment with pip: venv.sh FOLDER [PYTHON]
# Takes PYTHON, or else the first suitable one on the PATH. Ray's packages end at Python 3.14.
set -eu
folder=$1
wanted=${2:-}

suitable() {
    # A name on the PATH may be a shim of a version that is not installed, so it is run.
    "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' 2>/dev/null
}

if [ -n "$wanted" ]; then
    if ! suitable "$wanted"; then
        echo "PYTHON=$wanted cannot be run or is not Python 3.11 to 3.14" >&2
        exit 1
    fi
    python=$wanted
else
    python=
    for name in python3.13 python3.12 python3.11 python3.14 python3 python; do
        if suitable "$name"; then
            python=$name
            break
        fi
    done
    if [ -z "$python" ]; then
        echo 'rayrtc needs Python 3.11, 3.12, 3.13 or 3.14 and found none on the PATH.' >&2
        echo 'Debian, Ubuntu: sudo apt-get install python3 python3-venv    macOS: brew install python@3.13' >&2
        echo 'One that is not on the PATH: make run PYTHON=/path/to/python3' >&2
        exit 1
    fi
fi

if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    # Debian and Ubuntu ship Python without these two; the package is python3-venv or python3.N-venv.
    package=$("$python" -c 'import sys; print("python3.%d-venv" % sys.version_info[1])')
    if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
        echo "$python has no venv module: installing $package"
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$package" >/dev/null
    else
        echo "$python has no venv module. Debian, Ubuntu: sudo apt-get install $package" >&2
        exit 1
    fi
fi

rm -rf "$folder"
"$python" -m venv "$folder"
echo "    $("$folder/bin/python" -VV | head -n 1) in $folder"
