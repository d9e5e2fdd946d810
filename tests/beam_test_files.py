"""A file system for tests: test://bucket/path lies in the folder that TEST_FILES names."""

from __future__ import annotations

import os
from pathlib import Path

from apache_beam.io.filesystem import FileMetadata
from apache_beam.io.localfilesystem import LocalFileSystem

SCHEME = "test"


def local(path: str) -> str:
    return path.replace(f"{SCHEME}://", os.environ["TEST_FILES"].rstrip("/") + "/", 1)


class StoredObjects(LocalFileSystem):
    """Like an object store: no folders, and a rename to a name that is taken fails."""

    @classmethod
    def scheme(cls):
        return SCHEME

    def has_dirs(self):
        return False

    def join(self, base, *paths):
        return "/".join([base.rstrip("/"), *paths])

    def split(self, path):
        head, _, tail = path.rpartition("/")
        return head, tail

    def _url_dirname(self, url_or_path):
        return self.split(url_or_path)[0]

    def _list(self, dir_or_prefix):
        root = Path(local(f"{SCHEME}://"))
        for path in sorted(root.rglob("*")):
            name = f"{SCHEME}://{path.relative_to(root)}"
            if path.is_file() and name.startswith(dir_or_prefix):
                stat = path.stat()
                yield FileMetadata(name, stat.st_size, stat.st_mtime)

    def create(self, path, *args, **kwargs):
        return super().create(local(path), *args, **kwargs)

    def open(self, path, *args, **kwargs):
        return super().open(local(path), *args, **kwargs)

    def exists(self, path):
        return Path(local(path)).is_file()

    def metadata(self, path):
        found = super().metadata(local(path))
        return FileMetadata(path, found.size_in_bytes, found.last_updated_in_seconds)

    def rename(self, source_file_names, destination_file_names):
        sources = [local(path) for path in source_file_names]
        destinations = [local(path) for path in destination_file_names]
        assert not any(Path(path).exists() for path in destinations)
        super().rename(sources, destinations)

    def delete(self, paths):
        super().delete(list(map(local, paths)))
