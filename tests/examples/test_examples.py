"""What is said of the examples: each can be started by its name, is one short file, and listed."""

from pathlib import Path

import pytest

from rayrtc import Stream
from rayrtc.loader import load

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted(file.stem for file in (ROOT / "examples").glob("[!_]*.py"))


@pytest.mark.parametrize("name", EXAMPLES)
def test_example(name: str) -> None:
    target = load(f"examples.{name}:stream")
    assert isinstance(target, Stream)
    assert target.ui_args.get("title")
    text = (ROOT / "examples" / f"{name}.py").read_text()
    assert f"rayrtc dev examples.{name}:stream" in text
    assert len(text.splitlines()) < 150
    assert f"| [{name}](examples/{name}.py) |" in (ROOT / "README.md").read_text()
