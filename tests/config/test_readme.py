"""config/README.md explains every key that a config may have."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from thaw.config.config import Config


def test_every_key_is_explained() -> None:
    text = Path("config/README.md").read_text(encoding="utf-8")
    explained = set(re.findall(r"`([a-z0-9_]+)`", text)) | set(re.findall(r"`([a-z0-9_]+)\.X`", text))
    schema = Config.model_json_schema()
    definitions: list[dict[str, Any]] = [schema, *schema["$defs"].values()]
    keys = {key for definition in definitions for key in definition.get("properties", {})}
    sections = {"languages", "corpora", "parts", "models", "recipes", "treatments", "decoders", "studies"}
    assert keys - explained - sections - {"train", "dev", "test"} == set()
