"""What is read of metrics.jsonl: whole records, in bounded memory, of regular files."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from pyalexnet.errors import UserError
from pyalexnet.training import curve, metrics
from pyalexnet.training.metrics import LINES, MetricsFile

pytestmark = pytest.mark.host_only("reads files")

RECORD = {
    "epoch": 1,
    "train_loss": 1.5,
    "train_top1_error": 0.5,
    "val_loss": float("nan"),
    "val_top1_error": 0,
    "lr": 0.01,
    "host": "é",
}


def read(folder: Path, *lines: Any) -> list[dict[str, Any]]:
    texts = (line if isinstance(line, str) else json.dumps(line) for line in lines)
    (folder / LINES).write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    return metrics.read(folder)


def test_records_are_read_and_damaged_lines_left_out(tmp_path: Path) -> None:
    whole = [RECORD, RECORD | {"epoch": 2, "host": "\x85\u2028"}]
    damaged = [
        *("", "7", "null", "[]", "{", '{"epoch": 3, "st', "[" * 100_000, "9" * 5000),
        *({}, {"epoch": 3}, RECORD | {"epoch": True}, RECORD | {"epoch": 1.5}),
        *(RECORD | {"lr": "0.1"}, RECORD | {"lr": None}, RECORD | {"lr": 10**400}),
        *(RECORD | {"more": []}, RECORD | {"val_loss": False}),
    ]
    assert repr(read(tmp_path, whole[0], *damaged, whole[1])) == repr(whole)
    text = json.dumps(whole[1], ensure_ascii=False)
    assert read(tmp_path, text) == read(tmp_path, whole[1])


def test_what_is_no_regular_file_or_too_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match=r"metrics\.jsonl: no such file"):
        metrics.read(tmp_path)
    for make in (os.mkfifo, os.mkdir):
        make(tmp_path / LINES)
        with pytest.raises(UserError, match=r"metrics\.jsonl: cannot be read: .*file"):
            metrics.read(tmp_path)
        with pytest.raises(UserError, match=r"metrics\.jsonl: cannot be read: .*file"):
            MetricsFile(tmp_path, 9, curve.Subject("a", "b", 2))
        os.rename(tmp_path / LINES, tmp_path / make.__name__)
    read(tmp_path, RECORD)
    monkeypatch.setattr(metrics, "_BYTES", 100)
    with pytest.raises(UserError, match=r"metrics\.jsonl: has more than 100 bytes"):
        metrics.read(tmp_path)
