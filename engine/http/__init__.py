"""The engine over HTTP: one module per resource, put together in `app`."""
