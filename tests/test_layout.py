"""The import directions of docs/architecture.md.

Broken, a replica would need Ray, or a handler file a web server.
"""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FORBIDDEN = {
    "rayrtc": {
        "ray",
        "aiortc",
        "aioice",
        "fastapi",
        "starlette",
        "uvicorn",
        "aiohttp",
        "control_plane",
        "workers",
        "capacity",
    },
    "control_plane": {"ray", "aiortc", "aioice", "workers", "capacity"},
    "workers": {"control_plane", "fastapi", "starlette", "uvicorn", "capacity"},
    "capacity": {"ray", "control_plane", "workers", "fastapi", "starlette", "uvicorn"},
}
LAZY = {
    # what a command or a mount needs is imported when it runs
    "rayrtc/cli.py": {"control_plane", "workers"},
    "rayrtc/bench.py": {"capacity"},
    "rayrtc/stream.py": {"control_plane"},
}


def imported(tree: ast.AST, *, inside_functions: bool) -> set[str]:
    """Top-level names of the modules that a file imports; those for type checkers do not count."""
    names: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            return
        function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if function and not inside_functions:
            return
        if isinstance(node, ast.Import):
            names.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.split(".")[0])
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(tree)
    return names


@pytest.mark.parametrize("package", FORBIDDEN)
def test_packages_import_in_one_direction(package: str) -> None:
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    for file in files:
        place = file.relative_to(ROOT).as_posix()
        tree = ast.parse(file.read_text())
        wrong = imported(tree, inside_functions=False) & FORBIDDEN[package]
        lazy = imported(tree, inside_functions=True) & FORBIDDEN[package] - LAZY.get(place, set())
        assert not wrong | lazy, f"{place} imports {wrong | lazy}"


def test_a_handler_file_needs_no_ray_no_aiortc_and_no_server() -> None:
    code = "import rayrtc, sys; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert not loaded & FORBIDDEN["rayrtc"]
    assert not loaded & {"espeakng_loader", "hama", "huggingface_hub", "onnxruntime"}, "models"
    assert "httpx" not in loaded, "every process of a system would take longer to start"
