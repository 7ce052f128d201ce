"""Alerts: codes and words."""

from __future__ import annotations

import pickle

import pytest

from quicio.tls import alerts
from quicio.tls.alerts import Alert, AlertDescription

CLASSES = [
    item for item in vars(alerts).values() if isinstance(item, type) and issubclass(item, Alert) and item is not Alert
]


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: str(kind.__name__))
def test_classes(kind: type[Alert]) -> None:
    """Each class has its own code, and its name says which."""
    name = AlertDescription(kind.description).name.replace("_", "")
    assert kind.__name__.removeprefix("Alert").lower() == name
    assert str(kind("why")) == "why"
    assert sum(other.description == kind.description for other in CLASSES) == 1


def test_any_description() -> None:
    alert = Alert("busy", description=AlertDescription.user_canceled)
    assert alert.description == 90
    assert str(alert) == "busy"
    assert str(Alert(description=200)) == "TLS alert 200"
    assert Alert("x").description == AlertDescription.internal_error


def test_pickle() -> None:
    copied = pickle.loads(pickle.dumps(alerts.AlertUnknownCA("why")))
    assert type(copied) is alerts.AlertUnknownCA
    assert str(copied) == "why"
