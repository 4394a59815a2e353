"""Finished work, line by line, safe at every instant: what a campaign has, before it is put into shards.

Each line is the SHA-256 of its record and the record as JSON. A line is whole or it is not there: one that was cut
off by a kill, a power cut or a full disk is dropped when the journal is opened again.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any

from sectum.errors import DatasetBusy, DatasetInvalid


class Journal:
    """Records of one campaign that are in no shard yet. A context manager; only one process may hold it.

    Args:
        path: of the file; made if it is not there.

    Attributes:
        records: in their order.
        cut_off_bytes: of a last line that was not whole when the journal was opened, and is dropped; 0 if it was.

    Raises:
        DatasetBusy: another process has it open.
        DatasetInvalid: a line in the middle is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.records: list[dict[str, Any]] = []
        self.cut_off_bytes = 0
        self._file = path.open("a+b", buffering=0)
        try:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise DatasetBusy(
                    f"another process is collecting into {path.parent}: wait for it, or give another --folder"
                ) from error
            self._read(path)
            if not self.records:
                sync_folder(path.parent)  # the file may be new: its name too has to survive a power cut
        except BaseException:
            self._file.close()
            raise

    def _read(self, path: Path) -> None:
        self._file.seek(0)
        content = self._file.read()
        whole_bytes = content.rfind(b"\n") + 1
        for number, line in enumerate(content[:whole_bytes].split(b"\n")[:-1], start=1):
            digest, _, body = line.partition(b" ")
            if hashlib.sha256(body).hexdigest().encode() != digest:
                raise DatasetInvalid(
                    f"{path}, line {number} is damaged (its SHA-256 does not fit): delete that line; its network "
                    "will be measured again"
                )
            self.records.append(json.loads(body))
        self.cut_off_bytes = len(content) - whole_bytes
        self._file.truncate(whole_bytes)

    def append(self, record: Mapping[str, Any]) -> None:
        """Add a record. When this returns it survives a power cut; when it raises, it is not there at all.

        Raises:
            OSError: the disk is full or fails.
        """
        body = json.dumps(record, separators=(",", ":"), allow_nan=False).encode()
        line = hashlib.sha256(body).hexdigest().encode() + b" " + body + b"\n"
        end = self._file.seek(0, os.SEEK_END)
        try:
            written = 0
            while written < len(line):
                written += self._file.write(line[written:]) or 0
            os.fsync(self._file.fileno())
            self.records.append(dict(record))
        except BaseException:  # Ctrl-C, too
            with contextlib.suppress(OSError):
                self._file.truncate(end)
            raise

    def drop(self, keys: Container[str]) -> None:
        """Leave out the records with these keys: they are in a shard. The file keeps them until `clear`."""
        self.records = [record for record in self.records if record["key"] not in keys]

    def clear(self) -> None:
        """Forget all records: they are in a shard now."""
        self._file.truncate(0)
        os.fsync(self._file.fileno())
        self.records = []

    def close(self) -> None:
        """Let another process have it. May be called again."""
        self._file.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def sync_folder(folder: Path) -> None:
    """Have the names in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
