"""What a running service and its Envoy count, by name."""

OBSERVATIONS = "dualpool_observations_total"
ENTRIES = "dualpool_access_log_entries_total"
AT_REST = "dualpool_exchanges_in_flight 0.0"
"""Stands on the page of metrics when no exchange is open."""

ACTIVE = "http.llm.downstream_rq_active"
WRITTEN = "access_logs.grpc_access_log.logs_written"
"""Envoy's own."""
