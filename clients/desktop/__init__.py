"""`gcavt desktop`: this machine's webcam and microphone in, a virtual camera out, no browser."""
