"""What a fork server imports last: all that it has imported so far is kept out of the garbage collector's passes.

A pass writes into the head of every object that it looks at, and so would give each worker a copy of memory that the
fork shares. https://docs.python.org/3/library/gc.html#gc.freeze
"""

from __future__ import annotations

import gc

gc.collect()
gc.freeze()
