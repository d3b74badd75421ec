"""The edge: gRPC server, ext_proc exchange, health and admin endpoints."""
