"""The page's texts in the language of whoever looks at it: `locales/*.toml`, one file per language."""

import re
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import streamlit as st

from conversation import Failure

LANGUAGES = {"en": "English", "zh": "中文"}

_ASCII_PUNCTUATION = re.compile(r"([!-/:-@\[-`{-~])")


def text(key: str, **values: Any) -> str:
    """The text with this key, "section.name", in the page's language, with the values put in."""
    section, name = key.split(".")
    return str(catalogue(language())[section][name]).format(**values)


def failure_text(failure: Failure) -> str:
    """The failure in the page's language; in English where the catalogue does not know it."""
    sentence = catalogue(language())["error"].get(failure.key)
    return sentence.format(**failure.values) if sentence else failure.sentence


def language() -> str:
    """The language in the page's address, or else the browser's, or else English."""
    chosen = st.query_params.get("lang", "")
    browsers = (st.context.locale or "").split("-")[0].lower()
    return next((each for each in (chosen, browsers) if each in LANGUAGES), "en")


def plain(words: str) -> str:
    """Somebody's words as Markdown that shows them as they are."""
    return _ASCII_PUNCTUATION.sub(r"\\\1", words)


@cache
def catalogue(language: str) -> dict[str, dict[str, str]]:
    return tomllib.loads((Path(__file__).parent / "locales" / f"{language}.toml").read_text("utf-8"))
