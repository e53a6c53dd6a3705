"""What aiortc lacks for live use: early frames, timed sound, repeated requests, honest clocks, encoders."""
