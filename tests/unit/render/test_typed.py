"""Envoy's types find what Envoy would refuse."""

from typing import Any

import pytest

from extproc.render.typed import any_of, check

CLUSTER = "envoy.config.cluster.v3.Cluster"
ROUTER = "envoy.extensions.filters.http.router.v3.Router"


def test_comments_are_no_fields() -> None:
    """A good message passes, comments and all."""
    check(
        {"# a comment": None, "name": "a", "typed_extension_protocol_options": {"x": any_of(ROUTER, {})}}, CLUSTER
    )


@pytest.mark.parametrize(
    "fields",
    [
        {"nmae": "a"},
        {"lb_policy": "LEAST_REQEST"},
        {"connect_timeout": 3},
        {"health_checks": [{"grpc_health_check": {"sevice": ""}}]},
        {"typed_extension_protocol_options": {"x": any_of(ROUTER, {"no_such_field": True})}},
    ],
)
def test_wrong(fields: dict[str, Any]) -> None:
    """A wrong field or value anywhere, inside an Any too, is an error that says which message it is."""
    with pytest.raises(ValueError, match=CLUSTER):
        check({"name": "a", **fields}, CLUSTER)
