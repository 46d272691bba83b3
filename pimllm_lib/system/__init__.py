"""From a machine, a model and a context to a dataset, and from datasets to figures of merit."""
