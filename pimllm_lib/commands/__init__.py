"""What each command does, beside its arguments. Heavy imports wait until the command that needs them runs."""
