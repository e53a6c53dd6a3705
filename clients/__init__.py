"""What people and machines use the engine through: the command line, the browser page, the benchmarks."""
