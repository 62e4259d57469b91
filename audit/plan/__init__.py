"""What an audit will do, without torch: options, suites, cells and names."""
