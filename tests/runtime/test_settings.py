"""The settings: read from the environment, and told when wrong."""

from pathlib import Path

import pytest
from platformdirs import user_data_path

from runtime.settings import Settings, read_settings


def test_the_documented_settings_have_their_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    settings = read_settings()
    assert (settings.model_path, settings.tokenizer_path, settings.pt_path) == (None, None, None)
    assert (settings.pre_seq_len, settings.ipykernel) == (128, "python3")


def test_each_is_an_environment_variable_of_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL_PATH", "/models/chatglm3-6b")
    monkeypatch.setenv("TOKENIZER_PATH", "/models/tokenizer.model")
    monkeypatch.setenv("PRE_SEQ_LEN", "64")
    settings = read_settings()
    assert settings.model_path == "/models/chatglm3-6b"
    assert settings.tokenizer_path == Path("/models/tokenizer.model")
    assert settings.pre_seq_len == 64


def test_an_empty_one_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL_PATH", "")
    assert read_settings().model_path is None


@pytest.mark.parametrize(
    ("name", "value"), [("PRE_SEQ_LEN", "many"), ("DTYPE", "int3"), ("KV_CACHE_GB", "-1")]
)
def test_an_invalid_one_is_named_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=f"The setting {name} is invalid: .+it is '{value}'"):
        read_settings()


def test_conversations_are_kept_in_the_users_data_folder_unless_told_otherwise(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("DATA_PATH", "DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    assert (read_settings().data_path, read_settings().database_url) == (user_data_path("chatglm3-app"), None)
    monkeypatch.setenv("DATA_PATH", str(tmp_path))
    assert read_settings().data_path == tmp_path


def test_the_databases_password_is_not_shown_with_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://me:secret@host/database")
    settings = read_settings()
    assert "secret" not in f"{settings} {settings!r} {settings.model_dump_json()}"
    assert settings.database_url is not None
    assert settings.database_url.get_secret_value() == "postgresql://me:secret@host/database"
