"""`python -m tests.conformance [URL]`: the suite and its tables; exit code 1 when anything fails.

Without a URL, `rayrtc dev` is started for it and ended after it. Further arguments are pytest's.
"""

import sys
from pathlib import Path

import pytest

from tests.conformance.report import Report


def main(arguments: list[str]) -> int:
    options = ["-q", "--no-header", "--tb=short", "-p", "no:cacheprovider"]
    if arguments and not arguments[0].startswith("-"):
        options += ["--base-url", arguments.pop(0)]
    folder = str(Path(__file__).parent)
    return int(bool(pytest.main([folder, *options, *arguments], plugins=[Report()])))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
