from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import tpopt


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.conv, self.norm, self.head = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        features = torch.relu(self.norm(self.conv(x))).mean((2, 3))
        return {"features": features, "logits": self.head(features)}


def example() -> tuple[torch.Tensor]:
    return (torch.randn(2, 3, 9, 7, generator=torch.Generator().manual_seed(1)),)


def compile_small(model: nn.Module | None = None, inputs: object = None, **options: object) -> tpopt.CompiledModel:
    chosen: dict[str, object] = {"choice": "model", "kernels": "library", "gate": False, **options}
    return tpopt.compile((model or Small()).eval(), example() if inputs is None else inputs, **chosen)  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def compiled() -> tpopt.CompiledModel:
    return compile_small()


@pytest.fixture(scope="session")
def saved(compiled: tpopt.CompiledModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("saved") / "small.tpg"
    compiled.save(path)
    return path
