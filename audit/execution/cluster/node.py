"""What a node is: its name, and the software with which its students are trained."""

from __future__ import annotations

import platform
import socket
import sys

import numpy as np
import torch

import audit
from audit.execution.software import code
from reports.base import Data
from teachers.errors import UsageError


class Node(Data):
    """A machine of a cluster."""

    name: str
    tool: str
    code: str
    torch: str
    numpy: str
    system: str
    card: int = 0  # bytes that are free on the card of a slot, if it has one

    @classmethod
    def here(cls) -> Node:
        """Describe the node of this process."""
        return cls(
            name=f"{socket.gethostname()}-{_number()}",
            tool=audit.__version__,
            code=code(),
            torch=torch.__version__,
            numpy=np.__version__,
            system=f"{sys.platform} {platform.machine()}",
        )

    def fits(self, driver: Node) -> None:
        """Raise UsageError where this node would train other students than the machine that started the audit."""
        for what, mine, yours in (
            ("torch", self.torch, driver.torch),
            ("numpy", self.numpy, driver.numpy),
            ("distill-audit", self.tool, driver.tool),
        ):
            if mine != yours:
                raise UsageError(
                    f"node {self.name} has {what} {mine}, and {yours} is here; students would differ: install the same "
                    "on all nodes"
                )
        if self.code != driver.code:
            raise UsageError(
                f"node {self.name} has a distill-audit {self.tool} with other files than here; install the same on "
                "all nodes"
            )


def _number() -> str:
    """Return the beginning of the id that the cluster gave this node; nothing outside a cluster."""
    import ray

    return str(ray.get_runtime_context().get_node_id())[:6] if ray.is_initialized() else ""
