"""Studies as YAML files: what is evaluated, in a folder that goes on where it stopped."""
