"""What everything stands on: errors, units, axes, frozen parts, schema, conventions, places and files."""
