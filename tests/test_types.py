"""The types that a handler author sees, checked by mypy in strict mode on what README.md shows.

`make types` checks the packages, the examples and `tests/typed` in the same way.
"""

import re
from pathlib import Path

import pytest
from mypy import api

ROOT = Path(__file__).parents[1]


def readme_blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


def test_readme_example_is_ten_lines() -> None:
    lines = readme_blocks()[0].splitlines()
    assert len([line for line in lines if line and not line.startswith("#")]) == 10


@pytest.mark.timeout(300)
def test_readme_example_type_checks(tmp_path: Path) -> None:
    file = tmp_path / "app.py"
    file.write_text("\n".join(readme_blocks()))  # the second block goes on with the first
    config = ROOT / "pyproject.toml"
    told, errors, status = api.run(["--config-file", str(config), "--strict", str(file)])
    assert (status, errors) == (0, ""), told + errors
