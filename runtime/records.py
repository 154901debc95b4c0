"""Messages as JSON, exactly: the form in which they are stored and exported."""

import json
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict
from pydantic_core import PydanticSerializationError

from conversation import Conversation
from runtime.tree import Node


class Record(BaseModel):
    """A message of a conversation, with the number of the one that it follows."""

    # Also for the dataclasses inside: pydantic hands a model's configuration down to them.
    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        ser_json_bytes="base64",
        val_json_bytes="base64",
        ser_json_inf_nan="strings",
    )

    parent: int | None
    created: datetime
    message: Conversation

    @classmethod
    def of(cls, node: Node) -> "Record":
        return cls.model_construct(parent=node.parent, created=node.created, message=node.message)

    def node(self) -> Node:
        return Node(self.parent, self.message, self.created)


def to_json(model: BaseModel, **options: Any) -> str:
    """The model as JSON; lone surrogates in its texts, which no encoding can carry, become "?"."""
    try:
        return model.model_dump_json(exclude_defaults=True, **options)
    except PydanticSerializationError:
        values = model.model_dump(mode="json", exclude_defaults=True)
        text = json.dumps(values, ensure_ascii=False, **options)
        return text.encode(errors="replace").decode()
