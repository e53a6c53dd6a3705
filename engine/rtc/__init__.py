"""What aiortc lacks for a live picture: early frames, repeated requests, honest clocks, encoder bounds."""
