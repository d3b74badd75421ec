"""From one Dualpool configuration to the configuration of the proxy."""
