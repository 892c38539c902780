"""registry.json: one record per artifact, and nothing in it that is not a function of its inputs.

    {
     "schema": 1,
     "artifacts": {
      "convnext_tiny_22k/d2": {"converter": …, "layout": "d2", "license": …, "output": …, "source": …, "checks": …},
     }
    }

Sorted, one line per artifact, so that `git diff` shows what changed. The file is read strictly, written whole under a
lock, and replaced in one step. No time, host or absolute path stands in it.
"""

from zooconv.registry.file import Registry, registry_near, update
from zooconv.registry.record import (
    NAME,
    Check,
    Content,
    Converter,
    File,
    Output,
    Record,
    Sha256,
    SourceContent,
    SourceRecord,
    source_records,
)

__all__ = ["NAME", "Check", "Content", "Converter", "File", "Output", "Record", "Registry", "Sha256", "SourceContent",
           "SourceRecord", "registry_near", "source_records", "update"]
