"""Ways to play a live performance other than REST: a WebSocket, OSC, presets as files."""
