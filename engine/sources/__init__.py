"""Where driving media comes from: a browser's camera and microphone (WHIP), a clip, a photo."""
