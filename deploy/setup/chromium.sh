#!/bin/sh
# Makes sure that there is a browser for the end-to-end tests: one on the machine, else Debian's.
set -eu
for name in chromium chromium-browser google-chrome; do
    if command -v "$name" >/dev/null; then
        exit 0
    fi
done
if [ -x '/Applications/Google Chrome.app/Contents/MacOS/Google Chrome' ]; then
    exit 0
fi
if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
    echo '    no browser found: installing chromium'
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null
    exit 0
fi
echo 'The end-to-end tests need Chromium or Google Chrome, and none was found.' >&2
echo 'Debian: sudo apt-get install chromium    macOS: brew install --cask google-chrome' >&2
exit 1
