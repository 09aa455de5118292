"""What scripts/benchmark.py times, one module per subcommand: `add_arguments(parser)` and `run(arguments)`."""
