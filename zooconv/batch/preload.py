"""What a fork server imports for all its workers. Nothing here may start a thread: it would not survive the fork."""

from __future__ import annotations

from importlib import import_module

from zooconv.batch import task as task
from zooconv.plugins import families

import_module("numpy")  # which is imported at module level nowhere else
families()
