"""Students trained on the machines of a Ray cluster; nothing here is imported unless `--engine ray` asks for it."""
