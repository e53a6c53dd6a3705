"""Where the avatar goes."""
