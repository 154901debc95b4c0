"""Which part may import which: the table of the README's architecture section."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

STANDARD = set(sys.stdlib_module_names)
MODEL = {"torch", "transformers", "tokenizers", "huggingface_hub", "sentencepiece", "gguf", "psutil", "peft"}
VALUES = {"chatglm3.errors", "chatglm3.events"}  # of chatglm3, without the model

DATABASE = {"sqlalchemy", "alembic"}
PAGE = {"client", "conversation", "runtime", "streamlit", "ui", *VALUES}

ALLOWED = {
    "chatglm3": {"chatglm3", *MODEL},
    "runtime": {
        *{"runtime", "conversation", *VALUES, *DATABASE},
        *{"pydantic", "pydantic_core", "pydantic_settings", "platformdirs", "nbformat", "typing_extensions"},
    },
    "conversation.py": {"streamlit"},
    "tool_registry.py": {"runtime"},
    "client.py": {"chatglm3", "conversation", "runtime", "streamlit", "torch", "transformers"},
    "ui": PAGE,
    "demo_chat.py": PAGE,
    "demo_tool.py": {*PAGE, "tool_registry"},
    "demo_ci.py": PAGE,
    "main.py": {*PAGE, "demo_chat", "demo_ci", "demo_tool"},
}


def imports(node: ast.AST) -> set[str]:
    found: set[str] = set()
    for child in ast.walk(node):
        if isinstance(child, ast.Import):
            found |= {alias.name for alias in child.names}
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, "imports are absolute"
            found.add(child.module or "")
    return found


def files(part: str) -> list[Path]:
    path = ROOT / part
    return sorted(path.rglob("*.py")) if path.is_dir() else [path]


@pytest.mark.parametrize("part", ALLOWED)
def test_a_part_imports_only_what_is_below_it(part: str) -> None:
    for file in files(part):
        for module in imports(ast.parse(file.read_text())):
            top = module.split(".")[0]
            assert top in STANDARD or {module, top} & ALLOWED[part], f"{file.name} imports {module}"


def test_every_file_at_the_top_has_its_place_in_the_table() -> None:
    assert {file.name for file in ROOT.glob("*.py")} <= set(ALLOWED)


@pytest.mark.parametrize("part", ["conversation.py", "client.py"])
def test_streamlit_is_touched_only_inside_functions(part: str) -> None:
    tree = ast.parse((ROOT / part).read_text())
    at_import = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    assert all("streamlit" not in imports(node) for node in at_import)


def test_the_benchmark_and_the_client_need_neither_the_page_nor_its_settings() -> None:
    absent = ["streamlit", "pydantic_settings", "gguf", "platformdirs"]
    program = f"import sys; sys.modules.update(dict.fromkeys({absent})); import client, benchmarks.decode"
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
