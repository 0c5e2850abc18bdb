from dataclasses import fields
from pathlib import Path

import pytest

from qwen_vla_ros.checkpoint.manifest import (
    DatasetRecord,
    Manifest,
    Provenance,
    RobotRecord,
    software_version,
)
from qwen_vla_ros.checkpoint.normalization import ChannelStatistics, Normalization

DOCUMENT = Path(__file__).parents[3] / "docs" / "reference" / "checkpoint.md"


@pytest.mark.parametrize(
    "kind",
    [Manifest, Provenance, DatasetRecord, RobotRecord, Normalization, ChannelStatistics],
)
def test_every_key_of_a_checkpoints_files_is_documented(kind):
    text = DOCUMENT.read_text(encoding="utf-8")
    prefix = "provenance." if kind is Provenance else ""
    keys = {f"`{prefix}{x.name}" for x in fields(kind)}
    # A key, or its parts.
    assert {key for key in keys if f"{key}`" not in text and f"{key}." not in text} == set()


def test_the_version_is_that_of_the_package():
    setup = DOCUMENT.parents[2] / "src" / "qwen_vla_ros" / "setup.py"
    assert f'version="{software_version()}"' in setup.read_text(encoding="utf-8")
