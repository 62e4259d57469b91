"""From a suite to students: settings are tuned on validation, seeds matched with their controls, and judged."""
