"""The settings, read from the environment here and nowhere else."""

from pathlib import Path
from typing import Literal

from platformdirs import user_cache_path, user_data_path
from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Each field is an environment variable of the same name in capitals; an empty one counts as unset."""

    model_config = SettingsConfigDict(env_ignore_empty=True, frozen=True, protected_namespaces=())

    model_path: str | None = Field(None, description='A folder or hub id with ChatGLM3, or "embedded".')
    tokenizer_path: Path | None = Field(None, description="tokenizer.model, or its folder, if elsewhere.")
    pt_path: Path | None = Field(None, description="A folder with a P-Tuning v2 prefix encoder.")
    pre_seq_len: int = Field(128, ge=1, description="The prefix length of PT_PATH, in tokens.")
    ipykernel: str = Field("python3", description="The Jupyter kernel spec that runs code.")
    device: str | None = Field(
        None, description='Where the model runs, in PyTorch\'s words: "cuda:1", "cpu".'
    )
    dtype: Literal["float16", "bfloat16", "float32"] | None = Field(None, description="The precision.")
    kv_cache_gb: float = Field(1.0, ge=0, description="Memory for conversations' KV caches, in GB.")
    data_path: Path = Field(user_data_path("chatglm3-app"), description="Where conversations are kept.")
    database_url: SecretStr | None = Field(None, description="PostgreSQL, to keep them there instead.")
    cache_path: Path = Field(user_cache_path("chatglm3-app"), description="Where the embedded model is kept.")


def read_settings() -> Settings:
    """The settings of this process; raises ValueError, in a sentence, for an invalid one."""
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        name = "_".join(map(str, first["loc"])).upper()
        raise ValueError(
            f"The setting {name} is invalid: {first['msg']} (it is {first['input']!r})."
        ) from None
