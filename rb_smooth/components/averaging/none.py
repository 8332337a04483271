"""No averaging: what the optimizer deploys is deployed."""

from __future__ import annotations

from typing import Any

from torch import Tensor


class Unaveraged:
    """Keeps nothing: what the optimizer deploys is deployed. Source: both papers."""

    def update(self, deployed: list[Tensor], t: int) -> None:
        pass

    def weights(self, deployed: list[Tensor]) -> list[Tensor]:
        return deployed

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        pass
