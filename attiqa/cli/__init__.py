"""The ``attiqa`` console command: one module a subcommand."""
