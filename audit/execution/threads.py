"""One thread for everything that trains or answers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from threadpoolctl import threadpool_limits


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch and the BLAS of NumPy and SciPy use one thread each, and restore their numbers afterwards.

    Arrays of an attack are small: a second thread waits in a busy loop, and takes the core of another worker.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1, "blas"):
            yield
    finally:
        torch.set_num_threads(threads)
