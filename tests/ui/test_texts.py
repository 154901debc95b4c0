"""The page's texts: every language has all of them, and the page has no others."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from string import Formatter

import pytest

from runtime.database import _REASONS
from ui.texts import LANGUAGES, catalogue, plain

ROOT = Path(__file__).parents[2]
PAGE = [*sorted((ROOT / "ui").glob("*.py")), ROOT / "main.py", *sorted(ROOT.glob("demo_*.py"))]

# What Streamlit shows of a call: its first argument, and these.
SHOWN = {"label", "body", "text", "help", "placeholder", "icon", "title", "caption", "value"}
NOT_SHOWN = {"component", "form", "get_option"}  # what they take is a name
ICON = re.compile(r":material/\w+:")


def keys(language: str) -> dict[str, str]:
    sections = catalogue(language)
    return {f"{section}.{name}": text for section in sections for name, text in sections[section].items()}


def fields(text: str) -> set[str]:
    return {name.split(".")[0] for _, name, _, _ in Formatter().parse(text) if name}


def calls(module: Path) -> Iterator[ast.Call]:
    return (node for node in ast.walk(ast.parse(module.read_text())) if isinstance(node, ast.Call))


def test_every_language_has_its_catalogue() -> None:
    assert {file.stem for file in (ROOT / "ui" / "locales").glob("*.toml")} == set(LANGUAGES)


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_languages_have_the_same_keys_and_the_same_values_to_put_in(language: str) -> None:
    english, other = keys("en"), keys(language)
    assert english.keys() == other.keys()
    assert {key: fields(text) for key, text in english.items()} == {
        key: fields(text) for key, text in other.items()
    }


def test_chinese_is_chinese() -> None:
    same = {key for key, text in keys("zh").items() if not re.search("[\u4e00-\u9fff]", text)}
    names = {"page.title", "chat.branch", "settings.top_p"}
    names |= {"transfer.markdown", "transfer.json"}
    assert same - {f"welcome.embedded_{n}" for n in (1, 2, 3)} == names


def test_every_text_is_used_and_every_used_one_exists() -> None:
    source = "".join(module.read_text() for module in PAGE)
    used = set(re.findall(r'"([a-z]+\.[a-z0-9_]+)"', source))
    made = re.findall(r"""["']([a-z]+)\.(?:["'] \+|\{)""", source)
    sections = {*made, "error"}
    assert {key for key in used if key.split(".")[0] in catalogue("en")} <= keys("en").keys()
    unused = keys("en").keys() - used
    assert {key.split(".")[0] for key in unused} <= sections


def test_every_error_that_a_person_can_meet_is_in_the_catalogue() -> None:
    modules = [*(ROOT / "runtime").glob("*.py"), *(ROOT / "chatglm3").glob("*.py"), ROOT / "client.py"]
    # What these say is for the model, and for a tool's author.
    modules = [module for module in modules if module.name not in ("calls.py", "tools.py")]
    source = "".join(module.read_text() for module in modules)
    errors = r"(?:Error|Failure|super\(\).__init__)\((?:[^()]|\([^()]*\))*?"
    told = set(re.findall(errors + r'[\s,]key="(\w+)"', source))
    told |= set(re.findall(errors + r'"?\s*,\s*"([a-z0-9_]+)"', source))
    told |= {key for _, key, _ in _REASONS}
    assert {"busy", "message_too_long", "disk_full", "file_newer", "unexpected"} <= told
    assert told == set(catalogue("en")["error"])


@pytest.mark.parametrize("module", PAGE, ids=lambda module: module.name)
def test_no_text_of_the_page_bypasses_the_catalogue(module: Path) -> None:
    for call in calls(module):
        if not (isinstance(call.func, ast.Attribute) and _is_streamlit(call.func.value)):
            continue
        if call.func.attr in NOT_SHOWN:
            continue
        shown = [*call.args[:1], *(word.value for word in call.keywords if word.arg in SHOWN)]
        if call.func.attr in ("dialog", "tabs"):
            shown = call.args
        for argument in shown:
            for words in _literals(argument):
                assert not re.search(r"[^\W\d_]", ICON.sub("", words)), (
                    f"{module.name}:{call.lineno}: {words}"
                )


def _is_streamlit(node: ast.expr) -> bool:
    """Whether a call on this draws: `st`, `st.sidebar`, or a container by whatever name."""
    names = {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}
    return bool(names & {"st", "block", "as_text", "as_ids", "left_out"}) and not any(
        isinstance(each, ast.Attribute) and each.attr in ("session_state", "query_params", "secrets", "user")
        for each in ast.walk(node)
    )


def _literals(node: ast.expr) -> Iterator[str]:
    """The strings that are shown themselves: not those inside `text(…)` or another call, nor in an index."""
    match node:
        case ast.Constant(value=str(words)):
            yield words
        case ast.JoinedStr(values=parts):
            for part in parts:
                yield from _literals(part)
        case ast.BinOp(left=left, right=right):
            yield from _literals(left)
            yield from _literals(right)
        case ast.IfExp(body=body, orelse=orelse):
            yield from _literals(body)
            yield from _literals(orelse)
        case ast.List(elts=elements) | ast.Tuple(elts=elements):
            for element in elements:
                yield from _literals(element)


@pytest.mark.parametrize(
    "words", ["*a* _b_ `c` [d](e) ![f](g) $h$ :red[i] :material/home: <b> # 1. - ~~x~~ \\"]
)
def test_plain_words_have_no_markup_left(words: str) -> None:
    escaped = plain(words)
    assert re.sub(r"\\(.)", r"\1", escaped) == words
    assert re.fullmatch(r"(\\.|[\w\s])*", escaped)
