"""What scripts/soak.py does, one module per subcommand: `add_arguments(parser)` and `run(arguments)`."""
